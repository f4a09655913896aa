//! Large values of a journal are kept compressed.
//!
//! What a row keeps begins with a zero byte if it is not the value itself: JSON never does. LZ4 (the block format, by
//! Yann Collet), since a journal is read each time its run is taken up.

use std::borrow::Cow;

/// From how many bytes on it is tried: a smaller value has its place in its row.
const LARGE: usize = 2 * 1024;
/// The most bytes that are made of a few.
const MOST: usize = 64 * 1024 * 1024;

const MARK: u8 = 0;
const PLAIN: u8 = 0;
const LZ4: u8 = 1;

/// What a row keeps of a value.
pub(super) fn pack(value: &[u8]) -> Vec<u8> {
    if value.len() >= LARGE {
        let packed = lz4_flex::block::compress_prepend_size(value);
        // Little is not worth the way back.
        if packed.len() < value.len() / 8 * 7 {
            return [&[MARK, LZ4], &packed[..]].concat();
        }
    }
    match value.first() {
        Some(&MARK) => [&[MARK, PLAIN], value].concat(),
        _ => value.to_vec(),
    }
}

/// The value of what a row keeps; `None` where a newer version has written it, or something is broken.
pub(super) fn unpack(row: Vec<u8>) -> Option<Vec<u8>> {
    let (kept, how) = match row.as_slice() {
        [MARK, how, kept @ ..] => (Cow::Borrowed(kept), *how),
        [MARK] => return None,
        _ => return Some(row),
    };
    match how {
        PLAIN => Some(kept.into_owned()),
        LZ4 => {
            let (size, _) = lz4_flex::block::uncompressed_size(&kept).ok()?;
            if size > MOST {
                return None;
            }
            lz4_flex::block::decompress_size_prepended(&kept).ok()
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_large_and_says_little_is_small_in_its_row() {
        let value = br#"{"status":"paid","cents":100},"#.repeat(1_000);
        let row = pack(&value);
        assert!(row.len() < value.len() / 20, "{} of {}", row.len(), value.len());
        assert_eq!(unpack(row), Some(value));
    }

    #[test]
    fn what_is_small_or_says_much_is_itself() {
        let small = br#"{"a":1}"#.to_vec();
        assert_eq!(pack(&small), small);
        let mut state = 1_u64;
        let noise: Vec<u8> = core::iter::repeat_with(|| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            b'a' + u8::try_from(state >> 60).unwrap()
        })
        .take(LARGE * 2)
        .map(|byte| byte ^ 0x55)
        .collect();
        assert_eq!(unpack(pack(&noise)), Some(noise));
    }

    #[test]
    fn what_nobody_has_written_is_refused() {
        assert_eq!(unpack(vec![MARK]), None);
        assert_eq!(unpack(vec![MARK, 7, 1, 2]), None);
        assert_eq!(unpack(vec![MARK, LZ4, 1]), None);
        let mut claims_much = vec![MARK, LZ4];
        claims_much.extend(u32::MAX.to_le_bytes());
        claims_much.push(0);
        assert_eq!(unpack(claims_much), None);
    }

    proptest! {
        #[test]
        fn every_value_comes_back(value in prop::collection::vec(0_u8..4, 0..6_000)) {
            prop_assert_eq!(unpack(pack(&value)), Some(value));
        }

        #[test]
        fn no_bytes_of_a_row_are_a_panic(row in prop::collection::vec(any::<u8>(), 0..64), marked in any::<bool>()) {
            let row = if marked { [&[MARK, LZ4], &row[..]].concat() } else { row };
            let _ = unpack(row);
        }
    }
}
