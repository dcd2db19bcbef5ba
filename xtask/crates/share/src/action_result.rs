//! The `ActionResult` message of Bazel's remote cache, as far as a result needs it *(pure)*.
//!
//! An entry below `/ac/` has to be one, as caches such as bazel-remote check it. It names the bundle by the digest of
//! its standard output (`stdout_digest`, field 6 of `build.bazel.remote.execution.v2.ActionResult`), and the bundle
//! lies below `/cas/` under that digest.
//!
//! ```text
//! 32 45 0a 40 "9f86…" 10 2a  =  stdout_digest { hash: "9f86…", size_bytes: 42 }
//! ```

/// The fields by their numbers in `remote_execution.proto`.
const STDOUT_DIGEST: u64 = 6;
const DIGEST_HASH: u64 = 1;
const DIGEST_SIZE: u64 = 2;

/// The kinds of values on the wire, by the encoding of Protocol Buffers.
const VARINT: u64 = 0;
const FIXED_64: u64 = 1;
const BYTES: u64 = 2;
const FIXED_32: u64 = 5;

/// Encodes a message that names the content with this hash, in hexadecimal, and size in bytes.
#[must_use]
pub fn encode_action_result(hash: &str, size: u64) -> Vec<u8> {
    let mut digest = Vec::new();
    push_bytes(&mut digest, DIGEST_HASH, hash.as_bytes());
    push_varint(&mut digest, DIGEST_SIZE << 3 | VARINT);
    push_varint(&mut digest, size);
    let mut message = Vec::new();
    push_bytes(&mut message, STDOUT_DIGEST, &digest);
    message
}

/// Decodes the hash and the size that a message names. Returns `None` if it is malformed or names none. Fields that are
/// not known are skipped, as caches add some.
#[must_use]
pub fn decode_action_result(message: &[u8]) -> Option<(String, u64)> {
    let digest = find_fields(message)?.into_iter().rev().find_map(|field| match field {
        Field::Bytes(STDOUT_DIGEST, digest) => Some(digest),
        _ => None,
    })?;
    let (mut hash, mut size) = (None, 0);
    for field in find_fields(digest)? {
        match field {
            Field::Bytes(DIGEST_HASH, text) => hash = std::str::from_utf8(text).ok(),
            Field::Number(DIGEST_SIZE, number) => size = number,
            _ => {}
        }
    }
    let is_digest = |hash: &&str| {
        hash.len() == 64 && hash.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    };
    Some((hash.filter(is_digest)?.to_owned(), size))
}

enum Field<'a> {
    Number(u64, u64),
    Bytes(u64, &'a [u8]),
}

fn find_fields(mut message: &[u8]) -> Option<Vec<Field<'_>>> {
    let mut fields = Vec::new();
    while !message.is_empty() {
        let tag = take_varint(&mut message)?;
        let number = tag >> 3;
        match tag & 7 {
            VARINT => fields.push(Field::Number(number, take_varint(&mut message)?)),
            BYTES => {
                let length = usize::try_from(take_varint(&mut message)?).ok()?;
                fields.push(Field::Bytes(number, take_bytes(&mut message, length)?));
            }
            FIXED_64 => drop(take_bytes(&mut message, 8)?),
            FIXED_32 => drop(take_bytes(&mut message, 4)?),
            _ => return None,
        }
    }
    Some(fields)
}

fn take_bytes<'a>(message: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, rest) = message.split_at_checked(length)?;
    *message = rest;
    Some(taken)
}

fn take_varint(message: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = message.split_first()?;
        *message = rest;
        value |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn push_varint(message: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        message.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    message.push(value as u8);
}

fn push_bytes(message: &mut Vec<u8>, number: u64, bytes: &[u8]) {
    push_varint(message, number << 3 | BYTES);
    push_varint(message, bytes.len() as u64);
    message.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_comes_back_as_it_was() {
        let hash = "0123456789abcdef".repeat(4);
        for size in [0, 1, 127, 128, 300, u64::MAX] {
            let message = encode_action_result(&hash, size);
            assert_eq!(decode_action_result(&message), Some((hash.clone(), size)));
        }
        let message = encode_action_result(&hash, 42);
        assert_eq!(&message[..4], [0x32, 68, 0x0a, 64]);
        assert_eq!(&message[68..], [0x10, 42]);
    }

    #[test]
    fn unknown_fields_are_skipped_and_malformed_messages_refused() {
        let hash = "a".repeat(64);
        let message = encode_action_result(&hash, 7);
        // `execution_metadata` (9), which bazel-remote adds, and an `exit_code` (4).
        let more =
            [b"\x4a\x03\x0a\x01w\x20\x00".as_slice(), &message, b"\x49\0\0\0\0\0\0\0\0"].concat();
        assert_eq!(decode_action_result(&more), Some((hash.clone(), 7)));
        for length in 0..message.len() {
            let cut = decode_action_result(&message[..length]);
            assert!(cut.is_none() || length == 0, "{length}: {cut:?}");
        }
        assert_eq!(decode_action_result(b""), None);
        assert_eq!(decode_action_result(b"<html>"), None);
        assert_eq!(decode_action_result(&encode_action_result("../../etc/passwd", 1)), None);
        assert_eq!(decode_action_result(&encode_action_result(&"A".repeat(64), 1)), None);
        assert_eq!(decode_action_result(&[0xff; 40]), None);
    }
}
