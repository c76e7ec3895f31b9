//! Sums of floats without any rounding but the last, and how far apart two floats are.

/// The sum of `values`, rounded once: whatever their order.
///
/// Shewchuk's expansion (Adaptive Precision Floating-Point Arithmetic and Fast Robust Geometric
/// Predicates, 1997): parts that do not overlap, and together are the sum.
///
/// ```
/// assert_eq!(thalweg_oracle::sum([1e16, 1.0, -1e16]), 1.0);
/// ```
#[must_use]
pub fn sum(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut parts: Vec<f64> = Vec::new();
    for mut value in values {
        let mut kept = Vec::with_capacity(parts.len() + 1);
        for mut part in parts {
            if value.abs() < part.abs() {
                (value, part) = (part, value);
            }
            let whole = value + part;
            let rest = part - (whole - value);
            if rest != 0.0 {
                kept.push(rest);
            }
            value = whole;
        }
        kept.push(value);
        parts = kept;
    }
    // From the smallest on: the parts do not overlap, so that all but the last are exact or decide
    // a tie.
    parts.into_iter().fold(0.0, |sum, part| sum + part)
}

/// How many floats lie between `a` and `b`: 0 for equal ones, 1 for neighbours.
///
/// ```
/// assert_eq!(thalweg_oracle::apart(1.0, 1.0 + f64::EPSILON), 1);
/// assert_eq!(thalweg_oracle::apart(-0.0, 0.0), 0);
/// ```
#[must_use]
pub fn apart(a: f64, b: f64) -> u64 {
    // Positions on the line of all floats, zero in the middle.
    let position = |value: f64| {
        let bits = value.to_bits().cast_signed();
        if bits < 0 { i64::MIN - bits } else { bits }
    };
    position(a).abs_diff(position(b))
}
