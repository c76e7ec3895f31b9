//! The one list of metrics: names, help texts and labels, from which the registry and the page
//! `docs/metrics.md` are made.

mod list;

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use prometheus::core::{MetricVec, MetricVecBuilder};
use prometheus::{
    Encoder as _, GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, Opts, Registry, TextEncoder,
};

pub use list::{ALL, Kind, Metric};

/// The metrics of one job.
///
/// Series are addressed by the names of [`ALL`], without the prefix `thalweg_`; every series has
/// the label `job`, those of a step or a source or a sink also `step`, some one label more.
pub struct Metrics {
    registry: Registry,
    job: String,
    counters: BTreeMap<&'static str, IntCounterVec>,
    gauges: BTreeMap<&'static str, GaugeVec>,
    histograms: BTreeMap<&'static str, HistogramVec>,
    totals: Mutex<Totals>,
}

/// By name and labels: what had been counted before the counting began anew, and the total since.
type Totals = BTreeMap<(String, Vec<String>), (u64, u64)>;

impl Metrics {
    /// The metrics of `job`, all registered.
    ///
    /// # Errors
    /// If the list has a name twice or one that Prometheus does not take.
    pub fn new(job: &str) -> Result<Self, prometheus::Error> {
        let mut metrics = Self {
            registry: Registry::new(),
            job: job.to_owned(),
            counters: BTreeMap::new(),
            gauges: BTreeMap::new(),
            histograms: BTreeMap::new(),
            totals: Mutex::default(),
        };
        for metric in ALL {
            let name = format!("thalweg_{}", metric.name);
            let labels = metric.labels();
            match metric.kind {
                Kind::Counter => {
                    let vec = IntCounterVec::new(Opts::new(name, metric.help), &labels)?;
                    metrics.registry.register(Box::new(vec.clone()))?;
                    metrics.counters.insert(metric.name, vec);
                }
                Kind::Gauge => {
                    let vec = GaugeVec::new(Opts::new(name, metric.help), &labels)?;
                    metrics.registry.register(Box::new(vec.clone()))?;
                    metrics.gauges.insert(metric.name, vec);
                }
                Kind::Histogram(buckets) => {
                    let options = HistogramOpts::new(name, metric.help).buckets(buckets.to_vec());
                    let vec = HistogramVec::new(options, &labels)?;
                    metrics.registry.register(Box::new(vec.clone()))?;
                    metrics.histograms.insert(metric.name, vec);
                }
            }
        }
        Ok(metrics)
    }

    /// Adds to a counter. `labels` are the values of its labels after `job`.
    pub fn count(&self, name: &str, labels: &[&str], by: u64) {
        if let Some(counter) = self.series(&self.counters, name, labels) {
            counter.inc_by(by);
        }
    }

    /// Raises a counter to `total`, for figures that are kept elsewhere.
    pub fn count_to(&self, name: &str, labels: &[&str], total: u64) {
        if let Some(counter) = self.series(&self.counters, name, labels) {
            let labels = labels.iter().map(|&label| label.to_owned()).collect();
            let mut totals = self.totals.lock().unwrap_or_else(PoisonError::into_inner);
            let (before, since) = totals.entry((name.to_owned(), labels)).or_default();
            *since = total;
            counter.inc_by((*before + total).saturating_sub(counter.get()));
        }
    }

    /// From now on totals begin at nothing again, as the parts that count are made anew; counters
    /// go on from where they are.
    pub fn rebase(&self) {
        let mut totals = self.totals.lock().unwrap_or_else(PoisonError::into_inner);
        for (before, since) in totals.values_mut() {
            *before += std::mem::take(since);
        }
    }

    /// Sets a gauge.
    pub fn set(&self, name: &str, labels: &[&str], value: f64) {
        if let Some(gauge) = self.series(&self.gauges, name, labels) {
            gauge.set(value);
        }
    }

    /// Adds an observation to a histogram.
    pub fn observe(&self, name: &str, labels: &[&str], value: f64) {
        if let Some(histogram) = self.series(&self.histograms, name, labels) {
            histogram.observe(value);
        }
    }

    /// The text that Prometheus scrapes.
    ///
    /// # Errors
    /// Only if a family cannot be encoded.
    pub fn scrape(&self) -> Result<String, prometheus::Error> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    /// A series; a name or labels that the list does not have are our own mistake, which a
    /// measurement must not turn into a failure of the job.
    fn series<T: MetricVecBuilder>(
        &self,
        families: &BTreeMap<&'static str, MetricVec<T>>,
        name: &str,
        labels: &[&str],
    ) -> Option<T::M> {
        let mut values = Vec::with_capacity(labels.len() + 1);
        values.push(self.job.as_str());
        values.extend_from_slice(labels);
        let series = families
            .get(name)?
            .get_metric_with_label_values(&values)
            .ok();
        debug_assert!(series.is_some(), "metric {name} with labels {labels:?}");
        series
    }
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metrics")
            .field("job", &self.job)
            .finish_non_exhaustive()
    }
}

/// The page `docs/metrics.md`, made from the list.
#[must_use]
pub fn page() -> String {
    let mut page = String::from(
        "# Metrics\n\n`thalweg run` serves these at `/metrics`, in the text format of Prometheus. \
         Every name has the prefix `thalweg_`. This page is made from the list in \
         `runtime/metrics`.\n\n| name | type | labels | meaning |\n|---|---|---|---|\n",
    );
    for metric in ALL {
        let kind = match metric.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram(_) => "histogram",
        };
        let labels = metric.labels().join(", ");
        page.push_str(&format!(
            "| `{}` | {kind} | {labels} | {} |\n",
            metric.name, metric.help
        ));
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_can_be_recorded_and_scraped() {
        let metrics = Metrics::new("demo").expect("the list is well formed");
        for metric in ALL {
            let labels = vec!["x"; metric.labels().len() - 1];
            match metric.kind {
                Kind::Counter => metrics.count(metric.name, &labels, 1),
                Kind::Gauge => metrics.set(metric.name, &labels, 1.5),
                Kind::Histogram(_) => metrics.observe(metric.name, &labels, 0.1),
            }
        }
        metrics.count_to("records_in_total", &["x"], 5);
        metrics.rebase();
        metrics.count_to("records_in_total", &["x"], 1);
        metrics.count_to("records_in_total", &["x"], 2);
        let text = metrics.scrape().expect("encodes");
        assert!(
            text.contains("thalweg_records_in_total{job=\"demo\",step=\"x\"} 7"),
            "{text}"
        );
        assert!(
            ALL.iter()
                .all(|m| text.contains(&format!("# HELP thalweg_{} ", m.name)))
        );
    }

    #[test]
    fn label_values_stay_in_their_quotes() {
        let evil = "x\"} 1\nthalweg_evil 1\n\\";
        let metrics = Metrics::new(evil).expect("the list is well formed");
        metrics.count("decode_errors_total", &[evil, "a\nb"], 1);
        let text = metrics.scrape().expect("encodes");
        let series: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        let escaped = r#"x\"} 1\nthalweg_evil 1\n\\"#;
        let expected = format!(
            r#"thalweg_decode_errors_total{{job="{escaped}",reason="a\nb",step="{escaped}"}} 1"#
        );
        assert_eq!(series, [expected.as_str()], "one series is one line");
    }

    #[test]
    fn page_is_that_of_the_list() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/metrics.md");
        if std::env::var_os("UPDATE_EXPECT").is_some() {
            std::fs::write(path, page()).expect("docs can be written");
        }
        let text = std::fs::read_to_string(path).expect("docs/metrics.md");
        assert_eq!(text, page(), "run the test with UPDATE_EXPECT=1");
    }
}
