//! The text form of a graph, which snapshots, pass tests and `.vir` files use.
//!
//! ```text
//! graph vit.tiny  stage built
//!   symbol batch
//!   input x : f32[batch, 4]
//!
//! [head]
//!   param weight : f32[4, 10] uniform(0.5)
//!   param bias : f32[10] constant(0.0)
//!   %0 = matmul x, @weight : f32[batch, 10]
//!   %1 = add %0, @bias : f32[batch, 10]
//!
//!   output logits = %head/1
//! ```
//!
//! - `[path]` opens a scope; `[]` is the root. A scope may be opened more than once.
//! - Values are numbered within their scope, so that a new node changes one block of a diff:
//!   `%1` is in the current scope, `%head/1` in another, `%/1` in the root. Inputs have names.
//! - Parameters are declared in the order of the graph, at the head of a block of their scope when that
//!   order allows it, and before they are first read. `@weight` is relative to the current scope,
//!   `@/head.weight` is a full path; declarations use the same forms.
//!   `param` is trained, `buffer` is not; the initial values follow the type.
//! - Types and attributes are always written, defaults included: a snapshot is a contract.
//! - A name other than letters, digits, `_`, `.` and `-` is quoted: `"odd name"`.
//! - `//` begins a comment that ends with the line. A file may hold several graphs.
//!
//! Reading a graph back gives the same graph up to the numbers of ids; a graph that was read is valid
//! in the sense of [`crate::ir::verify`]. The origin of a node is not part of the text: source lines
//! and rules are printed as comments on demand. A text with digests in place of large constants
//! cannot be read back.

mod annotate;
mod cursor;
mod names;
mod parse;
mod print;
mod values;

pub use annotate::{annotate, explain};
pub use cursor::ParseError;
pub use parse::{parse, parse_all};
pub use print::{Style, print};

use crate::ops::Graph;
use std::fmt;

/// The complete text form.
impl fmt::Display for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&print(self, &Style::COMPLETE))
    }
}

#[cfg(test)]
mod tests;
