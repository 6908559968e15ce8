//! A first pass over an encoded model that bounds the memory for decoding it.
//!
//! An empty message takes two bytes in a file and hundreds when decoded, so a small hostile file could exhaust the
//! memory. The scan walks the messages without keeping anything and adds up the allocations of the decoder for messages
//! and strings. Numbers in packed fields grow at most eightfold and tensor bytes are not copied, so they are not counted.

use super::proto::{
    AttributeProto, DimensionProto, FunctionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, PresentProto,
    StringStringEntryProto, TensorProto, TensorShapeProto, TensorTypeProto, TypeProto, ValueInfoProto,
};
use bytes::Bytes;
use std::mem::size_of;

/// The memory for messages and strings that every file may use, in bytes.
const FLOOR: usize = 32 << 20;
/// The further memory for each byte of the file. Graphs in practice take 3 to 12 bytes.
const PER_BYTE: usize = 16;

/// An objection of the scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Objection {
    /// The file is not protobuf, or cut short, at this byte.
    Malformed(usize),
    /// Decoding would take memory out of proportion to the file.
    Amplified,
}

/// The messages of [`proto`](super::proto).
#[derive(Clone, Copy)]
enum Message {
    Model,
    Graph,
    Node,
    Attribute,
    Tensor,
    ValueInfo,
    Type,
    TensorType,
    Shape,
    /// Messages whose fields are strings and numbers.
    Dimension,
    Entry,
    OperatorSet,
    Function,
    Present,
}

/// The content of a length-delimited field.
enum Content {
    Message(Message),
    String,
    /// Bytes that are not copied, in a list or alone; packed numbers; fields that are skipped.
    Flat,
    Slice,
}

impl Message {
    fn content(self, field: u64) -> Content {
        match (self, field) {
            (Self::Model, 7) => Content::Message(Self::Graph),
            (Self::Model, 8) => Content::Message(Self::OperatorSet),
            (Self::Model, 14) | (Self::Tensor, 13) => Content::Message(Self::Entry),
            (Self::Model, 25) => Content::Message(Self::Function),
            (Self::Model, 20) | (Self::Graph, 15) | (Self::Tensor, 3) => Content::Message(Self::Present),
            (Self::Graph, 1) => Content::Message(Self::Node),
            (Self::Graph | Self::Attribute, 5) => Content::Message(Self::Tensor),
            (Self::Graph, 11..=13) => Content::Message(Self::ValueInfo),
            (Self::Node, 5) => Content::Message(Self::Attribute),
            (Self::ValueInfo, 2) => Content::Message(Self::Type),
            (Self::Type, 1) => Content::Message(Self::TensorType),
            (Self::TensorType, 2) => Content::Message(Self::Shape),
            (Self::Shape, 1) => Content::Message(Self::Dimension),
            (Self::Node, 1 | 2) => Content::String,
            (Self::Attribute, 9) | (Self::Tensor, 6) => Content::Slice,
            _ => Content::Flat,
        }
    }

    const fn size(self) -> usize {
        match self {
            Self::Model => size_of::<ModelProto>(),
            Self::Graph => size_of::<GraphProto>(),
            Self::Node => size_of::<NodeProto>(),
            Self::Attribute => size_of::<AttributeProto>(),
            Self::Tensor => size_of::<TensorProto>(),
            Self::ValueInfo => size_of::<ValueInfoProto>(),
            Self::Type => size_of::<TypeProto>(),
            Self::TensorType => size_of::<TensorTypeProto>(),
            Self::Shape => size_of::<TensorShapeProto>(),
            Self::Dimension => size_of::<DimensionProto>(),
            Self::Entry => size_of::<StringStringEntryProto>(),
            Self::OperatorSet => size_of::<OperatorSetIdProto>(),
            Self::Function => size_of::<FunctionProto>(),
            Self::Present => size_of::<PresentProto>(),
        }
    }
}

/// Walks an encoded `ModelProto`.
pub(super) fn scan(file: &[u8]) -> Result<(), Objection> {
    let mut scan = Scan { file, at: 0, budget: FLOOR.saturating_add(file.len().saturating_mul(PER_BYTE)) };
    scan.message(Message::Model, file.len())
}

struct Scan<'a> {
    file: &'a [u8],
    at: usize,
    budget: usize,
}

impl Scan<'_> {
    fn take(&mut self, bytes: usize) -> Result<(), Objection> {
        self.budget = self.budget.checked_sub(bytes).ok_or(Objection::Amplified)?;
        Ok(())
    }

    /// The nesting of [`Message::content`] has no cycle, which bounds the recursion.
    fn message(&mut self, message: Message, end: usize) -> Result<(), Objection> {
        self.take(message.size())?;
        while self.at < end {
            let key = self.varint(end)?;
            match key & 7 {
                0 => {
                    self.varint(end)?;
                }
                1 => self.skip(8, end)?,
                5 => self.skip(4, end)?,
                2 => {
                    let start = self.at;
                    let length = usize::try_from(self.varint(end)?).map_err(|_| Objection::Malformed(start))?;
                    let content = message.content(key >> 3);
                    if length > end - self.at {
                        return Err(Objection::Malformed(start));
                    }
                    match content {
                        Content::Message(inner) => self.message(inner, self.at + length)?,
                        Content::String => {
                            // Allocators hand out no less than 16 bytes.
                            self.take(size_of::<String>() + length.max(16))?;
                            self.at += length;
                        }
                        Content::Slice => {
                            self.take(size_of::<Bytes>())?;
                            self.at += length;
                        }
                        Content::Flat => self.at += length,
                    }
                }
                // Groups: ONNX has none, and skipping them would recurse.
                _ => return Err(Objection::Malformed(self.at)),
            }
        }
        Ok(())
    }

    fn skip(&mut self, n: usize, end: usize) -> Result<(), Objection> {
        if n > end - self.at {
            return Err(Objection::Malformed(self.at));
        }
        self.at += n;
        Ok(())
    }

    fn varint(&mut self, end: usize) -> Result<u64, Objection> {
        let start = self.at;
        let mut value = 0u64;
        for shift in (0..70).step_by(7) {
            if self.at >= end {
                break;
            }
            let byte = self.file[self.at];
            self.at += 1;
            value |= u64::from(byte & 0x7f).wrapping_shl(shift);
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Objection::Malformed(start))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A model of `n` empty nodes: two bytes each.
    fn empty_nodes(n: usize) -> Vec<u8> {
        let mut file = vec![7 << 3 | 2];
        prost::encode_length_delimiter(2 * n, &mut file).expect("a vector grows");
        file.extend([1 << 3 | 2, 0].repeat(n));
        file
    }

    #[test]
    fn out_of_proportion_is_refused_before_it_is_decoded() {
        assert_eq!(scan(&empty_nodes(1000)), Ok(()));
        assert_eq!(scan(&empty_nodes(1 << 20)), Err(Objection::Amplified));
    }

    #[test]
    fn what_is_not_protobuf_is_refused() {
        assert_eq!(scan(b""), Ok(()));
        assert_eq!(scan(&[0x0b]), Err(Objection::Malformed(1)), "a group");
        assert_eq!(scan(&[0x3a, 5, 0]), Err(Objection::Malformed(1)), "a length beyond the end");
        assert_eq!(scan(&[0x80; 20]), Err(Objection::Malformed(0)), "a number without end");
        assert_eq!(scan(&[0x09, 0]), Err(Objection::Malformed(1)), "half a double");
    }
}
