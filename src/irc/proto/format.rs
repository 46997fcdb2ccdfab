//! Formatting codes of IRC to and from Matrix HTML.
