//! SHA-256 digests for xtask's own files: caches, records and journals. Git object ids are
//! `xtask_git::Id`. For example, `to_hex(&hash_bytes(b""))` begins with `e3b0c442`.

use sha2::{Digest as _, Sha256};

/// The 32 raw bytes of a SHA-256 digest.
pub type Digest = [u8; 32];

/// Hashes `parts`, each preceded by its length as a big-endian `u64`, so that two different lists
/// never share a digest: `["ab", "c"]` and `["a", "bc"]` differ.
pub fn hash_parts<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Digest {
    let mut sha = Sha256::new();
    for part in parts {
        sha.update((part.len() as u64).to_be_bytes());
        sha.update(part);
    }
    sha.finalize().into()
}

/// Hashes `content` as `sha256sum` does.
#[must_use]
pub fn hash_bytes(content: &[u8]) -> Digest {
    Sha256::digest(content).into()
}

/// Hashes `stream` as [`hash_bytes`] does, in blocks of 64 KiB instead of loading all of it.
pub fn hash_stream(mut stream: impl std::io::Read) -> std::io::Result<Digest> {
    let mut sha = Sha256::new();
    let mut part = vec![0; 1 << 16];
    loop {
        match stream.read(&mut part)? {
            0 => return Ok(sha.finalize().into()),
            count => sha.update(&part[..count]),
        }
    }
}

/// Formats bytes as lowercase hexadecimal.
#[must_use]
pub fn to_hex(digest: &[u8]) -> String {
    use std::fmt::Write;
    digest.iter().fold(String::with_capacity(digest.len() * 2), |mut text, byte| {
        write!(text, "{byte:02x}").expect("because writing to a string cannot fail");
        text
    })
}

/// Serde support for a [`Digest`] as a hexadecimal string: `#[serde(with = "as_hex")]`.
pub mod as_hex {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    use super::{Digest, to_hex};

    pub fn serialize<S: Serializer>(digest: &Digest, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&to_hex(digest))
    }

    /// Reads 64 hexadecimal digits; anything else is a deserialization error.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Digest, D::Error> {
        let text = String::deserialize(deserializer)?;
        let mut digest = Digest::default();
        let pairs = text.as_bytes().chunks_exact(2);
        if text.len() != 2 * digest.len() {
            return Err(D::Error::custom("invalid digest: expected 64 hexadecimal digits"));
        }
        for (byte, pair) in digest.iter_mut().zip(pairs) {
            let pair = std::str::from_utf8(pair).map_err(D::Error::custom)?;
            *byte = u8::from_str_radix(pair, 16).map_err(D::Error::custom)?;
        }
        Ok(digest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_told_apart_by_their_lengths() {
        let one = hash_parts([&b"ab"[..], b"c"]);
        let two = hash_parts([&b"a"[..], b"bc"]);
        assert_ne!(one, two);
    }
}
