//! A disk that fails under a process: a library that is loaded before all others (`LD_PRELOAD`)
//! and has chosen system calls fail that concern chosen paths.
//!
//! `THALWEG_DISK=CALL:ERROR:FIRST:TIMES:PATH` is the rule: from the `FIRST`th call on (1 is the
//! first) of those whose path contains `PATH`, `TIMES` calls fail with `ERROR`, a number of
//! errno(3). [`Call`] has the calls. Every failure appends a line to the file that
//! `THALWEG_DISK_HITS` names, so that a test knows whether its fault has happened.
//!
//! An fsync of a file that fails takes with it what was written since the one before: Linux marks
//! pages that it could not write as clean, and what is read afterwards may be anything
//! (<https://wiki.postgresql.org/wiki/Fsync_Errors>). So zeros stand there, and whoever trusts them,
//! or syncs again and is told that all is well, is found out. Files are taken to grow at their end.
//!
//! Deliberately absent: the C library's own functions. Each call goes to the kernel by its number,
//! so that nothing here is called through itself.

#![allow(
    unsafe_code,
    reason = "functions of the C library are replaced by their names"
)]

use std::collections::BTreeMap;
use std::ffi::{CStr, c_char, c_int, c_long, c_uint, c_void};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

/// The calls that can fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    /// Opening a file, for whatever purpose.
    Open,
    /// Reading from a file.
    Read,
    /// Writing to a file.
    Write,
    /// fsync or fdatasync of a file.
    Sync,
    /// fsync of a folder.
    SyncFolder,
    /// Renaming, by the new name.
    Rename,
    /// Giving a second name, by the new name.
    Link,
}

/// Which calls fail, and how.
struct Rule {
    call: Call,
    error: c_int,
    first: u64,
    times: u64,
    path: String,
    seen: AtomicU64,
    hits: Option<std::ffi::CString>,
    /// How long files were, by inode, before they were written to without an fsync since.
    unsynced: Mutex<BTreeMap<u64, i64>>,
}

impl Rule {
    fn read() -> Option<Self> {
        let text = std::env::var("THALWEG_DISK").ok()?;
        let mut fields = text.splitn(5, ':');
        let call = match fields.next()? {
            "open" => Call::Open,
            "read" => Call::Read,
            "write" => Call::Write,
            "sync" => Call::Sync,
            "sync-folder" => Call::SyncFolder,
            "rename" => Call::Rename,
            "link" => Call::Link,
            _ => return None,
        };
        let hits = std::env::var("THALWEG_DISK_HITS").ok();
        Some(Self {
            call,
            error: fields.next()?.parse().ok()?,
            first: fields.next()?.parse().ok()?,
            times: fields.next()?.parse().ok()?,
            path: fields.next()?.to_owned(),
            seen: AtomicU64::new(0),
            hits: hits.and_then(|hits| std::ffi::CString::new(hits).ok()),
            unsynced: Mutex::default(),
        })
    }

    fn unsynced(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, i64>> {
        self.unsynced.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a call fails.
    fn hit(&self, path: &str) {
        let Some(hits) = &self.hits else { return };
        let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_APPEND | libc::O_CLOEXEC;
        let line = format!("{:?} {path}\n", self.call);
        // SAFETY: the name ends in a zero, and the line is as long as is said.
        unsafe {
            let file = libc::syscall(
                libc::SYS_openat,
                libc::AT_FDCWD,
                hits.as_ptr(),
                flags,
                0o644,
            );
            libc::syscall(libc::SYS_write, file, line.as_ptr(), line.len());
            libc::syscall(libc::SYS_close, file);
        }
    }
}

/// The rule of this process, if it has one.
fn rule() -> Option<&'static Rule> {
    static RULE: OnceLock<Option<Rule>> = OnceLock::new();
    RULE.get_or_init(Rule::read).as_ref()
}

/// Whether a call on the path that `path` finds fails: with `errno` set, for the caller to return.
fn fails(call: Call, path: impl FnOnce() -> Option<String>) -> bool {
    let Some(rule) = rule().filter(|rule| rule.call == call) else {
        return false;
    };
    let Some(path) = path().filter(|path| path.contains(&rule.path)) else {
        return false;
    };
    let number = rule.seen.fetch_add(1, Ordering::Relaxed) + 1;
    if number < rule.first || number - rule.first >= rule.times {
        return false;
    }
    rule.hit(&path);
    // SAFETY: errno of this thread is always there.
    unsafe { *libc::__errno_location() = rule.error };
    true
}

/// The path of a name that was handed in.
///
/// # Safety
/// `name` must end in a zero.
unsafe fn named(name: *const c_char) -> Option<String> {
    // SAFETY: the caller says so.
    let name = unsafe { CStr::from_ptr(name) };
    name.to_str().ok().map(str::to_owned)
}

/// The path of an open file.
fn opened(file: c_int) -> Option<String> {
    let link = format!("/proc/self/fd/{file}\0");
    let mut path = vec![0_u8; 4096];
    // SAFETY: the link ends in a zero, and the buffer is as long as is said.
    let length = unsafe {
        let (link, room) = (link.as_ptr(), path.as_mut_ptr());
        libc::syscall(libc::SYS_readlinkat, libc::AT_FDCWD, link, room, path.len())
    };
    path.truncate(usize::try_from(length).ok()?);
    String::from_utf8(path).ok()
}

/// What is known of an open file.
struct Known {
    folder: bool,
    inode: u64,
    length: i64,
}

fn looked_at(file: c_int) -> Option<Known> {
    let mut stat = std::mem::MaybeUninit::<libc::stat>::uninit();
    // SAFETY: it is as large as fstat wants it, and read only after it has been filled.
    unsafe {
        if libc::fstat(file, stat.as_mut_ptr()) != 0 {
            return None;
        }
        let stat = stat.assume_init();
        Some(Known {
            folder: stat.st_mode & libc::S_IFMT == libc::S_IFDIR,
            inode: stat.st_ino,
            length: stat.st_size,
        })
    }
}

/// A file is about to be written to.
fn grows(file: c_int) {
    let syncs = rule().filter(|rule| rule.call == Call::Sync);
    if let Some((rule, known)) = syncs.zip(looked_at(file)) {
        rule.unsynced().entry(known.inode).or_insert(known.length);
    }
}

/// Has what was written to a file since its last fsync go.
fn lose(file: c_int, known: &Known) {
    let from = rule().and_then(|rule| rule.unsynced().remove(&known.inode));
    let from = from.map_or(known.length, |from| from.min(known.length));
    let zeros = vec![0_u8; usize::try_from(known.length - from).unwrap_or(0)];
    // SAFETY: the buffer is as long as is said; a file open for reading only stays as it is. One
    // open for appending is written to at its end whatever the place, unless it is cut before.
    unsafe {
        libc::syscall(libc::SYS_ftruncate, file, from);
        libc::syscall(libc::SYS_pwrite64, file, zeros.as_ptr(), zeros.len(), from);
    }
}

fn sync(file: c_int, number: c_long) -> c_int {
    let known = looked_at(file);
    let folder = known.as_ref().is_some_and(|known| known.folder);
    let call = if folder { Call::SyncFolder } else { Call::Sync };
    if fails(call, || opened(file)) {
        // SAFETY: errno of this thread is always there; what is done in between may change it.
        unsafe {
            let error = *libc::__errno_location();
            if let Some(known) = known.filter(|known| !known.folder) {
                lose(file, &known);
            }
            *libc::__errno_location() = error;
        }
        return -1;
    }
    if let Some((rule, known)) = rule().zip(known) {
        rule.unsynced().remove(&known.inode);
    }
    // SAFETY: no pointers.
    unsafe { libc::syscall(number, file) as c_int }
}

/// fsync(2).
#[unsafe(no_mangle)]
pub extern "C" fn fsync(file: c_int) -> c_int {
    sync(file, libc::SYS_fsync)
}

/// fdatasync(2).
#[unsafe(no_mangle)]
pub extern "C" fn fdatasync(file: c_int) -> c_int {
    sync(file, libc::SYS_fdatasync)
}

/// open(2).
///
/// # Safety
/// As the C library says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn open(name: *const c_char, flags: c_int, mode: c_uint) -> c_int {
    // SAFETY: the caller's arguments are handed on.
    unsafe { open64(name, flags, mode) }
}

/// open(2).
///
/// # Safety
/// As the C library says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn open64(name: *const c_char, flags: c_int, mode: c_uint) -> c_int {
    // SAFETY: the caller's arguments are handed on.
    unsafe {
        match fails(Call::Open, || named(name)) {
            true => -1,
            false => libc::syscall(libc::SYS_openat, libc::AT_FDCWD, name, flags, mode) as c_int,
        }
    }
}

/// read(2).
///
/// # Safety
/// As the C library says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn read(file: c_int, room: *mut c_void, length: usize) -> isize {
    // SAFETY: the caller's arguments are handed on.
    unsafe {
        match fails(Call::Read, || opened(file)) {
            true => -1,
            false => libc::syscall(libc::SYS_read, file, room, length) as isize,
        }
    }
}

/// pread(2).
///
/// # Safety
/// As the C library says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pread64(file: c_int, room: *mut c_void, length: usize, at: i64) -> isize {
    // SAFETY: the caller's arguments are handed on.
    unsafe {
        match fails(Call::Read, || opened(file)) {
            true => -1,
            false => libc::syscall(libc::SYS_pread64, file, room, length, at) as isize,
        }
    }
}

/// write(2).
///
/// # Safety
/// As the C library says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn write(file: c_int, bytes: *const c_void, length: usize) -> isize {
    // SAFETY: the caller's arguments are handed on.
    unsafe {
        match fails(Call::Write, || opened(file)) {
            true => -1,
            false => {
                grows(file);
                libc::syscall(libc::SYS_write, file, bytes, length) as isize
            }
        }
    }
}

/// rename(2).
///
/// # Safety
/// As the C library says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rename(from: *const c_char, to: *const c_char) -> c_int {
    // SAFETY: the caller's arguments are handed on.
    unsafe {
        if fails(Call::Rename, || named(to)) {
            return -1;
        }
        let here = libc::AT_FDCWD;
        libc::syscall(libc::SYS_renameat2, here, from, here, to, 0) as c_int
    }
}

/// linkat(2).
///
/// # Safety
/// As the C library says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn linkat(
    from_folder: c_int,
    from: *const c_char,
    to_folder: c_int,
    to: *const c_char,
    flags: c_int,
) -> c_int {
    // SAFETY: the caller's arguments are handed on.
    unsafe {
        if fails(Call::Link, || named(to)) {
            return -1;
        }
        libc::syscall(libc::SYS_linkat, from_folder, from, to_folder, to, flags) as c_int
    }
}
