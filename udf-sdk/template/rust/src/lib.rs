//! Functions for the expressions of Thalweg's jobs.

/// Metres a vehicle needs to stop. Without a friction, the road counts as dry.
#[thalweg_udf::scalar]
pub fn braking_distance_m(speed_kmh: f64, friction: Option<f64>) -> Result<f64, String> {
    let friction = friction.unwrap_or(0.8);
    if friction <= 0.0 {
        // The row becomes a dead letter with this text; the others go on.
        return Err(format!("friction is {friction}, and must be positive"));
    }
    let speed = speed_kmh / 3.6;
    Ok(speed + speed * speed / (2.0 * 9.81 * friction))
}

#[cfg(test)]
mod tests {
    use super::braking_distance_m;

    #[test]
    fn wet_roads_take_longer() {
        let dry = braking_distance_m(100.0, None).expect("a distance");
        let wet = braking_distance_m(100.0, Some(0.4)).expect("a distance");
        assert!(wet > dry && dry > 70.0);
        assert!(braking_distance_m(100.0, Some(0.0)).is_err());
    }
}
