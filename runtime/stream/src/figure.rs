//! Figures: what the parts of a job tell about themselves, for metrics.

/// Takes the figures of one part.
///
/// Names are those of the list of metrics (`runtime/metrics`), without the prefix `thalweg_`; the
/// labels `job` and `step` are added. Figures of the same name and labels of a step's instances on
/// several workers are added up.
pub trait Figures {
    /// A counter's total since the part was made.
    fn total(&mut self, name: &'static str, labels: &[&str], total: u64);

    /// A gauge's value now.
    fn level(&mut self, name: &'static str, labels: &[&str], value: f64);

    /// Something that is so, in its labels: a gauge of 1, however many instances tell it.
    fn fact(&mut self, name: &'static str, labels: &[&str]);
}
