//! Tells whether a file is a complete ELF shared library, by reading its headers only.
//!
//! The system loader maps the segments a header announces and touches them: a library that was cut
//! short, by a full disk or a broken download, ends the process with SIGBUS. So the announced
//! segments are compared with the file's size first. Systems that do not use ELF get no check.

use super::ProbeError;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

const LOAD: u32 = 1;

pub(super) fn check(path: &Path) -> Result<(), ProbeError> {
    if !cfg!(target_os = "linux") {
        return Ok(());
    }
    let file = std::fs::File::open(path).map_err(|e| ProbeError::Loader(e.to_string()))?;
    let size = file.metadata().map_err(|e| ProbeError::Loader(e.to_string()))?.len();
    match segments_end(file) {
        Ok(end) if end > size => {
            Err(ProbeError::NotALibrary(format!("truncated: its header announces {end} bytes, the file has {size}")))
        }
        Ok(_) => Ok(()),
        Err(reason) => Err(ProbeError::NotALibrary(reason)),
    }
}

/// Offset of the end of the last loaded segment (System V ABI, "ELF Header" and "Program Header").
/// 32-bit files pass as empty: the loader refuses them by itself where they do not belong.
fn segments_end(mut file: impl Read + Seek) -> Result<u64, String> {
    let mut header = [0u8; 64];
    let got = read_up_to(&mut file, &mut header)?;
    if got < 4 || header[..4] != *b"\x7fELF" {
        return Err("it does not start with an ELF header".to_owned());
    }
    if got < header.len() {
        return Err("truncated within its ELF header".to_owned());
    }
    let (wide, little) = (header[4] == 2, header[5] == 1);
    if !wide || !little {
        return Ok(0);
    }
    let u16_at = |at: usize| u64::from(u16::from_le_bytes([header[at], header[at + 1]]));
    let (table, entry, count) = (u64_at(&header, 0x20), u16_at(0x36), u16_at(0x38));
    if entry < 56 {
        return Err(format!("its program headers have {entry} bytes each, expected 56"));
    }
    let mut end = 0;
    for i in 0..count {
        let mut program = [0u8; 56];
        let at = table.checked_add(i * entry).ok_or("its program headers lie outside the file")?;
        file.seek(SeekFrom::Start(at)).map_err(|e| e.to_string())?;
        if read_up_to(&mut file, &mut program)? < program.len() {
            return Err("truncated within its program headers".to_owned());
        }
        if u32::from_le_bytes([program[0], program[1], program[2], program[3]]) == LOAD {
            end = end.max(u64_at(&program, 0x08).saturating_add(u64_at(&program, 0x20)));
        }
    }
    Ok(end)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes were cut"))
}

fn read_up_to(file: &mut impl Read, buffer: &mut [u8]) -> Result<usize, String> {
    let mut got = 0;
    while got < buffer.len() {
        match file.read(&mut buffer[got..]).map_err(|e| e.to_string())? {
            0 => break,
            n => got += n,
        }
    }
    Ok(got)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    /// An ELF file of one loaded segment that ends at byte `end`.
    fn library(end: u64) -> Vec<u8> {
        let mut b = vec![0u8; 120];
        b[..6].copy_from_slice(b"\x7fELF\x02\x01");
        b[0x20..0x28].copy_from_slice(&64u64.to_le_bytes());
        b[0x36..0x38].copy_from_slice(&56u16.to_le_bytes());
        b[0x38..0x3a].copy_from_slice(&1u16.to_le_bytes());
        b[64..68].copy_from_slice(&LOAD.to_le_bytes());
        b[64 + 0x20..64 + 0x28].copy_from_slice(&end.to_le_bytes());
        b
    }

    #[test]
    fn the_end_of_the_last_segment_is_found() {
        assert_eq!(segments_end(Cursor::new(library(4096))), Ok(4096));
        assert_eq!(segments_end(Cursor::new(library(u64::MAX))), Ok(u64::MAX));
    }

    #[test]
    fn files_that_are_cut_or_something_else_are_refused() {
        let whole = library(120);
        for length in [0, 3, 40, 64, 100] {
            assert!(segments_end(Cursor::new(&whole[..length])).is_err(), "{length} bytes");
        }
        assert!(segments_end(Cursor::new(b"#!/bin/sh\necho this is a script, not a library\n")).is_err());
        let mut outside = whole;
        outside[0x20..0x28].copy_from_slice(&u64::MAX.to_le_bytes());
        assert!(segments_end(Cursor::new(outside)).is_err());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_library_shorter_than_announced_is_refused() -> std::io::Result<()> {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("short.so");
        std::fs::write(&path, library(4096))?;
        assert!(matches!(check(&path), Err(ProbeError::NotALibrary(m)) if m.contains("4096")));
        std::fs::write(&path, library(120))?;
        assert_eq!(check(&path), Ok(()));
        Ok(())
    }
}
