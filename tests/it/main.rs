//! The one integration binary: what needs real parts, and what looks at the source itself.

mod cli;
mod tidy;
