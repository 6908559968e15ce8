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

/// A message of [`proto`](super::proto): what it takes when decoded, and its length-delimited fields that take more by
/// number. The messages are constants, so that none can contain itself, which bounds the recursion.
struct Message {
    size: usize,
    fields: &'static [(u64, Content)],
}

/// The content of a length-delimited field. Others are bytes that are not copied, packed numbers, or skipped.
enum Content {
    Message(&'static Message),
    String,
    /// One of a list of bytes that are not copied.
    Slice,
}
use Content::Message as Inner;

const fn message<T>(fields: &'static [(u64, Content)]) -> Message {
    Message { size: size_of::<T>(), fields }
}

const PRESENT: Message = message::<PresentProto>(&[]);
const ENTRY: Message = message::<StringStringEntryProto>(&[]);
const OPERATOR_SET: Message = message::<OperatorSetIdProto>(&[]);
const FUNCTION: Message = message::<FunctionProto>(&[]);
const DIMENSION: Message = message::<DimensionProto>(&[]);
const SHAPE: Message = message::<TensorShapeProto>(&[(1, Inner(&DIMENSION))]);
const TENSOR_TYPE: Message = message::<TensorTypeProto>(&[(2, Inner(&SHAPE))]);
const TYPE: Message = message::<TypeProto>(&[(1, Inner(&TENSOR_TYPE))]);
const VALUE_INFO: Message = message::<ValueInfoProto>(&[(2, Inner(&TYPE))]);
const TENSOR: Message = message::<TensorProto>(&[(3, Inner(&PRESENT)), (6, Content::Slice), (13, Inner(&ENTRY))]);
const ATTRIBUTE: Message = message::<AttributeProto>(&[(5, Inner(&TENSOR)), (9, Content::Slice)]);
const NODE: Message = message::<NodeProto>(&[(1, Content::String), (2, Content::String), (5, Inner(&ATTRIBUTE))]);
const GRAPH: Message = message::<GraphProto>(&[
    (1, Inner(&NODE)),
    (5, Inner(&TENSOR)),
    (11, Inner(&VALUE_INFO)),
    (12, Inner(&VALUE_INFO)),
    (13, Inner(&VALUE_INFO)),
    (15, Inner(&PRESENT)),
]);
const MODEL: Message = message::<ModelProto>(&[
    (7, Inner(&GRAPH)),
    (8, Inner(&OPERATOR_SET)),
    (14, Inner(&ENTRY)),
    (20, Inner(&PRESENT)),
    (25, Inner(&FUNCTION)),
]);

/// Walks an encoded `ModelProto`.
pub(super) fn scan(file: &[u8]) -> Result<(), Objection> {
    let mut scan = Scan { file, at: 0, budget: FLOOR.saturating_add(file.len().saturating_mul(PER_BYTE)) };
    scan.message(&MODEL, file.len())
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

    fn message(&mut self, message: &Message, end: usize) -> Result<(), Objection> {
        self.take(message.size)?;
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
                    if length > end - self.at {
                        return Err(Objection::Malformed(start));
                    }
                    let end = self.at + length;
                    match message.fields.iter().find(|(number, _)| *number == key >> 3) {
                        Some((_, Content::Message(inner))) => self.message(inner, end)?,
                        // Allocators hand out no less than 16 bytes.
                        Some((_, Content::String)) => self.take(size_of::<String>() + length.max(16))?,
                        Some((_, Content::Slice)) => self.take(size_of::<Bytes>())?,
                        None => {}
                    }
                    self.at = end;
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
