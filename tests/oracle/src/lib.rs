//! What jobs under test should make of their input, told by plain maps.
//!
//! The input is a function: [`Generator::truth`](thalweg_generate::Generator::truth) says what
//! every record of a split is, so nothing of it is stored. Nothing of the engine or of any
//! operator is used: each model reads like the definition it mirrors, over all of its input at
//! once.
//!
//! Deliberately absent: epochs, watermarks, batches, workers. Where an answer depends on them (a
//! row beyond `out_of_order` is late or not as epochs are cut), the model takes what was found as
//! an argument, and checks that it is one of the answers that may be found.

mod exact;
mod road_risk;

pub use exact::{apart, sum};
pub use road_risk::{Observation, Place, RoadRisk, Weather, Window, risk};
