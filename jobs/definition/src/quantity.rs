//! Durations, sizes and times, as definitions write them.

/// Milliseconds of `250ms 10s 5m 1h30m 7d`.
pub(crate) fn duration_ms(text: &str) -> Option<u64> {
    let units = [
        ("ms", 1),
        ("s", 1000),
        ("m", 60_000),
        ("h", 3_600_000),
        ("d", 86_400_000),
    ];
    total(text, &units)
}

/// Milliseconds of a duration that may have a minus before it.
pub(crate) fn signed_duration_ms(text: &str) -> Option<i64> {
    let (sign, length) = match text.trim().strip_prefix('-') {
        Some(length) => (-1, length),
        None => (1, text),
    };
    Some(sign * i64::try_from(duration_ms(length)?).ok()?)
}

/// Bytes of `64KiB 512MiB 4GiB 100B`.
pub(crate) fn size_bytes(text: &str) -> Option<u64> {
    let units = [
        ("B", 1),
        ("KiB", 1 << 10),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
        ("TiB", 1 << 40),
    ];
    total(text, &units)
}

fn total(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let mut rest = text.trim();
    let mut sum: Option<u64> = None;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let (number, behind) = rest.split_at(digits);
        let end = behind
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(behind.len());
        let (unit, next) = behind.split_at(end);
        let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
        let part = number.parse::<u64>().ok()?.checked_mul(*factor)?;
        sum = Some(sum.unwrap_or(0).checked_add(part)?);
        rest = next;
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::{duration_ms, signed_duration_ms, size_bytes};

    #[test]
    fn quantities_are_numbers_with_units() {
        assert_eq!(duration_ms("1h30m"), Some(5_400_000));
        assert_eq!(duration_ms("250ms"), Some(250));
        assert_eq!(size_bytes("512MiB"), Some(512 << 20));
        assert_eq!(signed_duration_ms("-8h"), Some(-28_800_000));
        assert_eq!(signed_duration_ms("1h30m"), Some(5_400_000));
        assert_eq!(signed_duration_ms("--1s"), None);
        for wrong in ["", "10", "s", "1x", "1 s", "-1s", "99999999999999999999s"] {
            assert_eq!(duration_ms(wrong), None, "{wrong}");
        }
    }
}
