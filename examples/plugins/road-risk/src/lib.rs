//! How risky a vehicle's situation is, from what it reports and the weather around it.

/// Grip that a dry road gives.
const FRICTION_DRY: f64 = 0.9;
/// Speed at which a dry road in mild weather is as risky as this scale goes.
const SPEED_MAX_KMH: f64 = 260.0;

/// What is left of the grip: on a mild road, below zero, and where water freezes. A table, as the
/// weather is nothing that a processor can foresee.
const GRIP_ON_ICE: [f64; 4] = [1.0, 0.7, 0.4, 0.4];

/// Risk between 0 and 100 from speed, friction between tyre and road (0 to about 1), rain, and air
/// temperature. Without a weather report the weather counts as dry and mild.
#[thalweg_udf::scalar]
pub fn risk(
    speed_kmh: f64,
    friction: f64,
    rain_mm_h: Option<f64>,
    temperature_c: Option<f64>,
) -> f64 {
    let rain = rain_mm_h.unwrap_or(0.0).clamp(0.0, 50.0);
    let temperature = temperature_c.unwrap_or(15.0);
    // Water takes up to 0.4 of the grip away; around freezing, ice takes more.
    let wet_and_freezing = usize::from(temperature < 3.0 && rain > 0.0);
    let icy = GRIP_ON_ICE[usize::from(temperature < 0.0) + 2 * wet_and_freezing];
    let grip = friction.clamp(0.02, 1.2) * icy;
    // Braking distance grows with the square of speed and with the loss of grip: it is d = s² ∙ dry /
    // (grip ∙ wet), wet = 1 − 0.4 ∙ rain / (rain + 4), and the risk d / (d + 0.25), here as one
    // fraction.
    let speed = speed_kmh.clamp(0.0, SPEED_MAX_KMH) * (1.0 / SPEED_MAX_KMH);
    let distance = speed * speed * FRICTION_DRY * (rain + 4.0);
    100.0 * distance / (distance + 0.25 * grip * (0.6 * rain + 4.0))
}

#[cfg(test)]
mod tests {
    use super::risk;

    #[test]
    fn standing_is_safe_and_nothing_exceeds_the_scale() {
        assert_eq!(risk(0.0, 0.1, Some(20.0), Some(-5.0)), 0.0);
        assert!(risk(400.0, 0.0, Some(99.0), Some(-40.0)) <= 100.0);
    }

    #[test]
    fn risk_grows_with_speed_rain_and_ice() {
        let dry = risk(90.0, 0.8, Some(0.0), Some(12.0));
        assert!(risk(130.0, 0.8, Some(0.0), Some(12.0)) > dry);
        let wet = risk(90.0, 0.8, Some(6.0), Some(12.0));
        assert!(wet > dry);
        assert!(risk(90.0, 0.8, Some(6.0), Some(1.0)) > wet);
    }

    #[test]
    fn missing_weather_is_dry_and_mild() {
        let known = risk(90.0, 0.8, Some(0.0), Some(15.0));
        assert_eq!(risk(90.0, 0.8, None, None), known);
    }
}
