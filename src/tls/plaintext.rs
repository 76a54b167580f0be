//! Plaintext that was decrypted and that nobody took yet.

use crate::net::{Buffer, BufferPool};

/// Bytes in a buffer of the pool, which is given back when they are taken.
#[derive(Debug, Default)]
pub(super) struct Plaintext {
    buffer: Option<Buffer>,
    /// More came than a buffer holds, which a read of bounded size cannot bring.
    overflowed: bool,
}

impl Plaintext {
    pub(super) fn is_empty(&self) -> bool {
        self.buffer.is_none()
    }

    pub(super) fn overflowed(&self) -> bool {
        self.overflowed
    }

    /// Keep `bytes`.
    pub(super) fn put(&mut self, bytes: &[u8], pool: &BufferPool) {
        if bytes.is_empty() {
            return;
        }
        let mut buffer = self.buffer.take().unwrap_or_else(|| pool.take());
        if !buffer.append(bytes) {
            let mut larger = pool.take_large();
            self.overflowed |= !larger.append(&buffer) || !larger.append(bytes);
            pool.give(buffer);
            buffer = larger;
        }
        self.buffer = Some(buffer);
    }

    /// Move some of them to the front of `into`; how many.
    pub(super) fn take(&mut self, into: &mut [u8], pool: &BufferPool) -> usize {
        let Some(mut buffer) = self.buffer.take() else { return 0 };
        let count = buffer.len().min(into.len());
        into[..count].copy_from_slice(&buffer[..count]);
        buffer.skip(count);
        if buffer.is_empty() {
            pool.give(buffer);
        } else {
            self.buffer = Some(buffer);
        }
        count
    }

    /// Forget them.
    pub(super) fn give_back(&mut self, pool: &BufferPool) {
        if let Some(buffer) = self.buffer.take() {
            pool.give(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_put_is_taken_in_order() {
        let pool = BufferPool::default();
        let mut plaintext = Plaintext::default();
        plaintext.put(&[1; 10_000], &pool);
        plaintext.put(&[2; 10_000], &pool);
        let mut taken = [0; 15_000];
        assert_eq!(plaintext.take(&mut taken, &pool), 15_000);
        assert_eq!((taken[9_999], taken[10_000]), (1, 2));
        assert_eq!(plaintext.take(&mut taken, &pool), 5_000);
        assert!(plaintext.is_empty() && !plaintext.overflowed());
        plaintext.put(&[1; 100_000], &pool);
        plaintext.put(&[1; 100_000], &pool);
        assert!(plaintext.overflowed());
    }
}
