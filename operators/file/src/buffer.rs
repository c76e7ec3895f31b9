//! Reusable read buffers: a chunk borrows one and gives it back when its last user is done.
//!
//! Fresh memory costs a page fault for every 4 KiB, about as much as reading it from the page
//! cache; a reused buffer costs nothing and is warm.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

/// Most buffers that are kept while nobody uses them.
const FREE_MAX: usize = 16;

/// Buffers of one size.
#[derive(Debug)]
pub(crate) struct BufferPool {
    bytes: usize,
    free: Mutex<Vec<Vec<u8>>>,
}

impl BufferPool {
    /// A pool of buffers of `bytes`.
    pub(crate) fn new(bytes: usize) -> Arc<Self> {
        Arc::new(Self {
            bytes,
            free: Mutex::default(),
        })
    }

    /// A buffer of at least `bytes`, initialised, of unknown content.
    pub(crate) fn take(&self, bytes: usize) -> Vec<u8> {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let reused = free.pop_if(|_| bytes <= self.bytes);
        reused.unwrap_or_else(|| vec![0; bytes.max(self.bytes)])
    }

    /// The first `used` bytes of a buffer as a chunk's content; the buffer comes back afterwards.
    pub(crate) fn lend(self: &Arc<Self>, buffer: Vec<u8>, used: usize) -> Bytes {
        let lent = Lent {
            buffer,
            used,
            pool: Arc::clone(self),
        };
        // Little content does not hold on to a large buffer.
        if used <= self.bytes / 8 {
            return Bytes::copy_from_slice(lent.as_ref());
        }
        Bytes::from_owner(lent)
    }

    fn give_back(&self, buffer: Vec<u8>) {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        // Grown buffers go: one huge record must not hold its memory for ever.
        if buffer.len() == self.bytes && free.len() < FREE_MAX {
            free.push(buffer);
        }
    }
}

struct Lent {
    buffer: Vec<u8>,
    used: usize,
    pool: Arc<BufferPool>,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        self.buffer.get(..self.used).unwrap_or(&self.buffer)
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.pool.give_back(std::mem::take(&mut self.buffer));
    }
}

#[cfg(test)]
mod tests {
    use super::BufferPool;

    fn free(pool: &BufferPool) -> usize {
        pool.free.lock().unwrap().len()
    }

    #[test]
    fn a_buffer_comes_back_when_its_last_user_is_done() {
        let pool = BufferPool::new(64);
        let mut buffer = pool.take(1);
        buffer[..32].fill(7);
        let content = pool.lend(buffer, 32);
        let slice = content.slice(30..);
        drop(content);
        assert_eq!(free(&pool), 0);
        assert_eq!(&slice[..], [7, 7]);
        drop(slice);
        assert_eq!(free(&pool), 1);
        assert_eq!((pool.take(64).len(), free(&pool)), (64, 0));
    }

    #[test]
    fn grown_buffers_and_little_content_hold_nothing() {
        let pool = BufferPool::new(64);
        drop(pool.lend(pool.take(1000), 900));
        assert_eq!(free(&pool), 0);
        let content = pool.lend(pool.take(1), 8);
        // Already back, though the content lives.
        assert_eq!((content.len(), free(&pool)), (8, 1));
        let many: Vec<_> = (0..100).map(|_| pool.lend(pool.take(1), 64)).collect();
        drop(many);
        assert_eq!(free(&pool), super::FREE_MAX);
    }
}
