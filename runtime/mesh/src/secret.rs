//! What the processes of a job know and nobody else does.

use std::fmt;

use aws_lc_rs::hmac;

use crate::Error;

/// Nobody guesses 128 bits; an answer of the handshake allows guessing at leisure.
const BYTES_MIN: usize = 16;

/// The secret of a job's processes. Never shown.
#[derive(Clone)]
pub struct Secret(hmac::Key);

impl Secret {
    /// The secret that consists of `bytes`.
    ///
    /// # Errors
    /// Fewer than 16 bytes.
    pub fn new(bytes: &[u8]) -> Result<Self, Error> {
        if bytes.len() < BYTES_MIN {
            return Err(Error::WeakSecret(bytes.len()));
        }
        Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, bytes)))
    }

    /// HMAC-SHA256 (RFC 2104) of `parts` one after the other.
    pub(crate) fn sign(&self, parts: &[&[u8]]) -> [u8; 32] {
        let mut context = hmac::Context::with_key(&self.0);
        for part in parts {
            context.update(part);
        }
        let mut tag = [0; 32];
        tag.copy_from_slice(context.sign().as_ref());
        tag
    }

    /// Whether `tag` is what [`Self::sign`] makes of `parts`, in constant time.
    pub(crate) fn verifies(&self, parts: &[&[u8]], tag: &[u8; 32]) -> bool {
        hmac::verify(&self.0, &parts.concat(), tag).is_ok()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// A new secret's bytes, that nobody can foresee.
///
/// # Errors
/// The operating system has no random numbers.
pub fn random_secret() -> Result<[u8; 32], Error> {
    random()
}

/// `N` bytes that nobody can foresee.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], Error> {
    let mut bytes = [0; N];
    let error = |_| Error::io("random numbers", std::io::ErrorKind::Unsupported.into());
    aws_lc_rs::rand::fill(&mut bytes).map_err(error)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_secrets_are_refused_and_none_is_shown() {
        for length in 0..BYTES_MIN {
            assert!(
                matches!(Secret::new(&vec![7; length]), Err(Error::WeakSecret(n)) if n == length)
            );
        }
        let secret = Secret::new(b"correct horse battery").expect("long enough");
        assert_eq!(format!("{secret:?}"), "Secret(…)");
    }

    #[test]
    fn a_signature_depends_on_every_byte() {
        let secret = Secret::new(&[1; 32]).expect("long enough");
        let tag = secret.sign(&[b"ab", b"c"]);
        assert!(secret.verifies(&[b"abc"], &tag));
        assert!(!secret.verifies(&[b"abd"], &tag));
        assert!(
            !Secret::new(&[2; 32])
                .expect("long enough")
                .verifies(&[b"abc"], &tag)
        );
    }
}
