//! Streaming a model into an `.onnx` file, and its tensors into a file beside it when they are large.
//!
//! Protobuf prefixes everything with its length, so all lengths are computed from types and extents first; then each
//! tensor goes through once, in the order of [`Graph::initializers`](super::Graph::initializers). Memory is what the
//! caller needs to supply one tensor. The graph is the last field of the file and its tensors the last fields of the
//! graph: whoever cuts the file anywhere breaks a length, and readers notice.

use super::encode::{self, EncodeError};
use super::proto::TensorProto;
use super::sink::{Exactly, Failure};
use super::{Initializer, Model, TensorData};
use crate::files::{AtomicFile, Sink};
use prost::{Message, encode_length_delimiter, length_delimiter_len};
use std::error::Error;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Protobuf's limit on the size of one message, `i32::MAX` bytes.
const PROTOBUF_LIMIT: u64 = (1 << 31) - 1;
/// Tensor bytes in all from which [`External::Auto`] puts them into a file of their own: 1.5 GiB.
const AUTO_LIMIT: u64 = 3 << 29;
/// Tensor bytes in all beyond which no file system goes, far enough from the end of `u64` to add offsets.
const LARGEST_FILE: u64 = 1 << 62;
/// Smaller tensors stay in the model file: runtimes read shapes and axes from there when they fold constants.
const SMALL: u64 = 1 << 10;
/// External tensors start at multiples of a page, so that runtimes can memory-map them.
const PAGE: u64 = 1 << 12;

/// A key of protobuf's wire format for a length-delimited field.
const fn key(field: u8) -> u8 {
    field << 3 | 2
}
const GRAPH: u8 = key(7);
const INITIALIZER: u8 = key(5);
const RAW_DATA: u8 = key(9);

/// Whether tensors go into `<file name>.data` beside the model. Tensors below 1 KiB never do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum External {
    /// When all tensors together take more than 1.5 GiB.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never; an error above protobuf's limit of 2 GiB.
    Never,
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// Size of the model file, in bytes.
    pub model_bytes: u64,
    /// The file of external tensors and its size in bytes.
    pub data: Option<(PathBuf, u64)>,
}

/// Why a model could not be written. Nothing is left behind, and what stood there before stands there still.
#[allow(missing_docs, reason = "the message of a variant names its fields")]
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// A path that names no file.
    #[error("cannot write a model to {}: {why}", path.display())]
    Path { path: PathBuf, why: &'static str },
    /// The system refused: disk full, folder missing, no permission.
    #[error("cannot write {}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    /// The model is not expressible.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// The supplier of tensor bytes failed.
    #[error("cannot supply the bytes of `{name}`: {source}")]
    Supply { name: String, source: Box<dyn Error + Send + Sync> },
    /// The supplier gave more or fewer bytes than the tensor has.
    #[error("`{name}` takes {expected} bytes, but {found} were supplied")]
    Size { name: String, expected: u64, found: u64 },
    /// More than one protobuf message can hold.
    #[error(
        "{0} bytes are more than one file can hold; a model file ends at 2147483647 bytes, protobuf's limit: put tensors into external data"
    )]
    TooLarge(u64),
}

/// One initializer, planned: its header, the bytes to follow and where they go.
struct Planned {
    header: TensorProto,
    payload: u64,
    place: Place,
}

enum Place {
    /// Inside the header: strings.
    Header,
    /// Behind the header.
    Model,
    /// At this offset of the data file.
    Data(u64),
}

/// Writes `model` to `path`, asking `bytes_of` for the bytes of each [`TensorData::Deferred`] initializer in turn.
///
/// `bytes_of` writes the row-major little-endian elements into the stream, as many bytes as the tensor has, in pieces of
/// any size; a large slice is passed on without a copy, and [`Sink::copy`] has the kernel take bytes from a file. A
/// `.data` file that stands beside a model written without external data is left alone.
pub fn write<E: Into<Box<dyn Error + Send + Sync>>>(
    model: &Model,
    path: &Path,
    external: External,
    mut bytes_of: impl FnMut(&Initializer, &mut dyn Sink) -> Result<(), E>,
) -> Result<Written, WriteError> {
    let refuse = |why| WriteError::Path { path: path.to_path_buf(), why };
    let name = path.file_name().ok_or_else(|| refuse("it ends in no file name"))?;
    if path.is_dir() {
        return Err(refuse("a folder stands there"));
    }
    if path.parent().is_some_and(|folder| !folder.as_os_str().is_empty() && !folder.is_dir()) {
        return Err(refuse("its folder does not exist"));
    }
    let location = format!("{}.data", name.to_str().ok_or_else(|| refuse("the file name is not UTF-8"))?);
    let data_path = path.with_file_name(&location);

    let head = encode::model_head(model)?.encode_to_vec();
    let graph_head = encode::graph_head(model)?.encode_to_vec();
    let plan = plan(model, &location, external)?;
    let graph_len = plan.iter().fold(graph_head.len() as u64, |n, p| n.saturating_add(delimited(p.message_len())));
    let total = delimited(graph_len).saturating_add(head.len() as u64);
    if total > PROTOBUF_LIMIT {
        return Err(WriteError::TooLarge(total));
    }

    let at = |path: &Path| {
        let path = path.to_path_buf();
        move |source| WriteError::Io { path: path.clone(), source }
    };
    let (model_io, data_io) = (at(path), at(&data_path));
    let mut out = AtomicFile::create(path).map_err(&model_io)?;
    let split = plan.iter().any(|p| matches!(p.place, Place::Data(_)));
    let mut data = if split { Some(AtomicFile::create(&data_path).map_err(&data_io)?) } else { None };

    let mut lead = head;
    lead.push(GRAPH);
    put_length(graph_len, &mut lead);
    lead.extend_from_slice(&graph_head);
    out.write_all(&lead).map_err(&model_io)?;
    for (tensor, planned) in model.graph.initializers.iter().zip(&plan) {
        out.write_all(&planned.lead()).map_err(&model_io)?;
        match (&planned.place, &mut data) {
            (Place::Data(offset), Some(data)) => {
                let gap = offset - data.written();
                data.write_all(&vec![0; gap as usize]).map_err(&data_io)?;
                supply(tensor, planned.payload, data, &mut bytes_of, &data_io)?;
            }
            (Place::Model, _) => supply(tensor, planned.payload, &mut out, &mut bytes_of, &model_io)?,
            (Place::Data(_) | Place::Header, _) => {}
        }
    }
    debug_assert_eq!(out.written(), total, "lengths were computed as they are written");

    // What can still fail for lack of space does so before anything is renamed.
    out.flush().map_err(&model_io)?;
    let written = data.as_ref().map(|d| (data_path.clone(), d.written()));
    if let Some(data) = data {
        data.finish().map_err(&data_io)?;
    }
    out.finish().map_err(|source| {
        if split {
            // An old model beside new tensors would be read without complaint; without them it is not.
            let _ = std::fs::remove_file(&data_path);
        }
        model_io(source)
    })?;
    Ok(Written { model_bytes: total, data: written })
}

/// Decides for each initializer where its bytes go.
fn plan(model: &Model, location: &str, external: External) -> Result<Vec<Planned>, WriteError> {
    let tensors = &model.graph.initializers;
    let payloads = tensors.iter().map(encode::payload).collect::<Result<Vec<_>, _>>()?;
    let all = payloads.iter().fold(0u64, |n, &p| n.saturating_add(p));
    if all > LARGEST_FILE {
        return Err(WriteError::TooLarge(all));
    }
    let split = match external {
        External::Always => true,
        External::Never => false,
        External::Auto => all > AUTO_LIMIT,
    };
    let mut end = 0u64;
    let planned = tensors.iter().zip(payloads).map(|(tensor, payload)| {
        let place = match tensor.data {
            TensorData::Strings(_) => Place::Header,
            _ if split && payload >= SMALL => {
                let offset = end.next_multiple_of(PAGE);
                end = offset + payload;
                Place::Data(offset)
            }
            _ => Place::Model,
        };
        let outside = if let Place::Data(offset) = place { Some((location, offset, payload)) } else { None };
        Planned { header: encode::header(tensor, outside), payload, place }
    });
    Ok(planned.collect())
}

impl Planned {
    /// Length of the tensor's message, with the bytes behind the header.
    fn message_len(&self) -> u64 {
        let header = self.header.encoded_len() as u64;
        if matches!(self.place, Place::Model) { header.saturating_add(delimited(self.payload)) } else { header }
    }

    /// Everything of the tensor's message but the bytes.
    fn lead(&self) -> Vec<u8> {
        let mut lead = vec![INITIALIZER];
        put_length(self.message_len(), &mut lead);
        lead.extend_from_slice(&self.header.encode_to_vec());
        if matches!(self.place, Place::Model) {
            lead.push(RAW_DATA);
            put_length(self.payload, &mut lead);
        }
        lead
    }
}

/// Length of a length-delimited field with a one-byte key: key, length, content.
fn delimited(content: u64) -> u64 {
    content.saturating_add(1 + length_delimiter_len(content as usize) as u64)
}

fn put_length(length: u64, out: &mut Vec<u8>) {
    encode_length_delimiter(length as usize, out).expect("a vector grows");
}

/// Passes the bytes of `tensor` on to `out`.
fn supply<E: Into<Box<dyn Error + Send + Sync>>>(
    tensor: &Initializer,
    expected: u64,
    out: &mut dyn Sink,
    bytes_of: &mut impl FnMut(&Initializer, &mut dyn Sink) -> Result<(), E>,
    io: &impl Fn(io::Error) -> WriteError,
) -> Result<(), WriteError> {
    if let TensorData::Inline(data) = &tensor.data {
        return out.write_all(data).map_err(io);
    }
    let explain = |failure| match failure {
        Failure::Io(e) => io(e),
        Failure::Size { found } => WriteError::Size { name: tensor.name.clone(), expected, found },
    };
    let mut sink = Exactly::new(out, expected);
    match bytes_of(tensor, &mut sink) {
        Ok(()) => sink.close().map_err(explain),
        // When the stream failed, the supplier only passes that on.
        Err(e) => Err(match sink.failed() {
            Some(failure) => explain(failure),
            None => WriteError::Supply { name: tensor.name.clone(), source: e.into() },
        }),
    }
}
