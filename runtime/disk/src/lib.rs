//! Writing a file that is to be on disk before anything else happens.
//!
//! What is synced at once gains nothing from the page cache: the kernel would look for free pages,
//! copy the content there, and write it out of them while somebody waits. So large files go past it
//! (`O_DIRECT`, open(2)), wherever the file system can do that.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;

/// Files from so many bytes on go past the page cache.
const DIRECT_MIN: usize = 256 << 10;
/// What is written at once.
const PIECE: usize = 1 << 20;
/// What position, length and address of a piece are multiples of: enough for any disk.
const BLOCK: usize = 4 << 10;

/// Creates the file `path`, which must not be there, with `chunks` one after another as its content,
/// and brings it to disk. The name is durable only when the folder has been synced, too.
///
/// # Errors
/// As open(2), write(2) and fsync(2) have them. The file may be there then, with anything in it, and
/// is to be given up: after a failed fsync the kernel may have dropped what it could not write.
pub fn write_new<C: AsRef<[u8]>>(path: &Path, chunks: &[C]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
    let length: usize = chunks.iter().map(|chunk| chunk.as_ref().len()).sum();
    let mut done = match length >= DIRECT_MIN {
        true => write_direct(path, chunks)?,
        false => 0,
    };
    file.seek(SeekFrom::Start(done as u64))?;
    for chunk in chunks {
        let chunk = chunk.as_ref();
        let skipped = done.min(chunk.len());
        done -= skipped;
        file.write_all(&chunk[skipped..])?;
    }
    // Direct writes tell their errors themselves, and all others went through this descriptor:
    // another one might not see theirs.
    file.sync_all()
}

/// Writes the whole blocks of the content past the page cache, as far as the file system can;
/// returns how many bytes.
fn write_direct<C: AsRef<[u8]>>(path: &Path, chunks: &[C]) -> io::Result<usize> {
    let flag = i32::try_from(OFlags::DIRECT.bits()).unwrap_or_default();
    let mut file = match OpenOptions::new().write(true).custom_flags(flag).open(path) {
        Err(error) if error.kind() == ErrorKind::InvalidInput => return Ok(0),
        opened => opened?,
    };
    let mut memory = vec![0; PIECE + BLOCK];
    let start = memory.as_ptr().align_offset(BLOCK);
    let piece = &mut memory[start..start + PIECE];
    let (mut filled, mut done) = (0, 0);
    for chunk in chunks {
        let mut rest = chunk.as_ref();
        while !rest.is_empty() {
            let (some, left) = rest.split_at(rest.len().min(PIECE - filled));
            piece[filled..filled + some.len()].copy_from_slice(some);
            (filled, rest) = (filled + some.len(), left);
            if filled == PIECE {
                if !write_piece(&mut file, piece, &mut done)? {
                    return Ok(done);
                }
                filled = 0;
            }
        }
    }
    write_piece(&mut file, &piece[..filled / BLOCK * BLOCK], &mut done)?;
    Ok(done)
}

/// Writes a piece and adds what was written to `done`; false if the file system cannot write the
/// rest of it like this.
fn write_piece(file: &mut File, mut piece: &[u8], done: &mut usize) -> io::Result<bool> {
    while !piece.is_empty() {
        match file.write(piece) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(written) => {
                *done += written;
                piece = &piece[written..];
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::InvalidInput => return Ok(false),
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn whatever_its_length_a_file_has_all_of_its_content() {
        let folder = tempfile::tempdir().expect("a folder");
        let lengths = [0, 1, DIRECT_MIN - 1, DIRECT_MIN, DIRECT_MIN + 1];
        let larger = [
            PIECE - 1,
            PIECE,
            PIECE + 1,
            3 * PIECE + BLOCK,
            3 * PIECE + BLOCK + 7,
        ];
        for (number, length) in lengths.into_iter().chain(larger).enumerate() {
            let content: Vec<u8> = (0..length).map(|at| (at * 31 / 7) as u8).collect();
            for size in [length.max(1), 100_001, 4096] {
                let path = folder.path().join(format!("{number}-{size}"));
                let chunks: Vec<&[u8]> = content.chunks(size).collect();
                write_new(&path, &chunks).expect("written");
                assert!(
                    fs::read(&path).expect("there") == content,
                    "{length} by {size}"
                );
                assert_eq!(fs::read(&path).expect("there").len(), length);
            }
        }
    }

    #[test]
    fn a_file_that_is_there_is_left_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("there");
        fs::write(&path, "old").expect("written");
        let error = write_new(&path, &[vec![7; PIECE]]).expect_err("it is there");
        assert_eq!(error.kind(), ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).expect("there"), b"old");
    }

    /// What a file system does that cannot write like this: the rest goes through the page cache.
    #[test]
    fn what_cannot_be_written_past_the_cache_is_left_to_others() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("odd");
        fs::write(&path, "").expect("written");
        let flag = i32::try_from(OFlags::DIRECT.bits()).expect("a flag");
        let Ok(mut file) = OpenOptions::new()
            .write(true)
            .custom_flags(flag)
            .open(&path)
        else {
            return;
        };
        // A length that is no multiple of any disk's blocks.
        let mut done = 0;
        let all = write_piece(&mut file, &[1, 2, 3], &mut done).expect("no other error");
        assert_eq!((all, done), if all { (true, 3) } else { (false, 0) });
    }
}
