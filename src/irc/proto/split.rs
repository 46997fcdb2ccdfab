//! Cuts text into lines that fit.
