//! Of a seed that fails, the least that still does: faults are left out one by one, foul weather is
//! made shorter, and records fewer, as long as something goes wrong.

use std::collections::BTreeSet;
use std::fmt::{Display, Formatter};
use std::str::FromStr;

use crate::kernel::{Scenario, run};
use crate::plan::Plan;
use crate::record::Input;

/// Tells what it takes at least for a seed to fail.
pub(crate) fn told(seed: u64) -> String {
    let less = Less::least(seed);
    let plan = less.of(Plan::draw(&Scenario::of(seed)));
    format!("the least that fails: THALWEG_LESS={less}\n{plan}")
}

/// What a simulation is to do without.
#[derive(Clone, Debug, Default)]
pub(crate) struct Less {
    /// Faults, by name.
    faults: BTreeSet<String>,
    /// Turns of foul weather there are at most.
    turns: Option<u64>,
    /// Records that a split has at most.
    records: Option<u64>,
}

impl Less {
    /// What is left of a plan.
    pub(crate) fn of(&self, mut plan: Plan) -> Plan {
        for (name, often) in plan.weather.faults() {
            if self.faults.contains(name) {
                *often = 0;
            }
        }
        plan.foul = plan.foul.min(self.turns.unwrap_or(u64::MAX));
        let Input {
            reports, versions, ..
        } = &mut plan.shape.input;
        for extent in [reports, versions] {
            extent.count = extent.count.min(self.records.unwrap_or(u64::MAX));
        }
        plan
    }

    /// The least that a seed needs to fail, found by leaving out one thing after the other.
    fn least(seed: u64) -> Self {
        let fails = |less: &Self| {
            let less = less.clone();
            let ran = run(&Scenario {
                less,
                ..Scenario::of(seed)
            });
            !ran.wrong.is_empty()
        };
        let mut least = Self::default();
        let mut plan = Plan::draw(&Scenario::of(seed));
        for (name, often) in plan.weather.faults() {
            let mut less = least.clone();
            less.faults.insert(name.to_owned());
            if *often > 0 && fails(&less) {
                least = less;
            }
        }
        for most in halves(plan.foul) {
            let turns = Some(most);
            let less = Self {
                turns,
                ..least.clone()
            };
            if !fails(&less) {
                break;
            }
            least = less;
        }
        for most in halves(plan.shape.input.reports.count) {
            let records = Some(most);
            let less = Self {
                records,
                ..least.clone()
            };
            if !fails(&less) {
                break;
            }
            least = less;
        }
        least
    }
}

/// Half of a number, half of that, and so on to one.
fn halves(number: u64) -> impl Iterator<Item = u64> {
    let half = |number: u64| (number > 1).then_some(number / 2);
    std::iter::successors(half(number), move |number| half(*number))
}

/// As in `crash,freeze,turns=100,records=9`.
impl Display for Less {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        let mut words: Vec<String> = self.faults.iter().cloned().collect();
        words.extend(self.turns.map(|turns| format!("turns={turns}")));
        words.extend(self.records.map(|records| format!("records={records}")));
        f.write_str(&words.join(","))
    }
}

impl FromStr for Less {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut less = Self::default();
        for word in text.split(',').filter(|word| !word.is_empty()) {
            match word.split_once('=') {
                Some(("turns", most)) => less.turns = Some(most.parse()?),
                Some((_, most)) => less.records = Some(most.parse()?),
                None => drop(less.faults.insert(word.to_owned())),
            }
        }
        Ok(less)
    }
}

/// In a process of its own, as a fault is for the whole process.
#[cfg(debug_assertions)]
#[test]
fn a_seed_that_fails_is_told_with_the_least_that_does() {
    let run = |environment: &[(&str, &str)]| {
        let mut command = std::process::Command::new(std::env::current_exe().expect("this test"));
        command.args(["--exact", "seeds_end_as_the_model_says"]);
        for name in [
            "THALWEG_SEED",
            "THALWEG_LESS",
            "THALWEG_PLANTED",
            "THALWEG_TRACE",
        ] {
            command.env_remove(name);
        }
        let out = command.envs(environment.iter().copied()).output();
        let out = out.expect("it runs");
        let said = [out.stdout, out.stderr].concat();
        (out.status.success(), String::from_utf8(said).expect("text"))
    };
    let planted = ("THALWEG_PLANTED", "apply-early");
    let (well, said) = run(&[planted]);
    let value = |name: &str| {
        let (_, rest) = said.split_once(name).expect(name);
        rest.split_whitespace()
            .next()
            .unwrap_or_default()
            .to_owned()
    };
    assert!(!well, "{said}");
    // What it takes for rows of a later epoch to be there early is an epoch and rows.
    let (seed, less) = (value("THALWEG_SEED="), value("THALWEG_LESS="));
    let least: Less = less.parse().expect("what is told reads back");
    assert!(!least.faults.is_empty() && least.turns.is_some(), "{said}");
    let repeat = [
        ("THALWEG_SEED", seed.as_str()),
        ("THALWEG_LESS", less.as_str()),
    ];
    assert!(run(&repeat).0, "it passes without the planted fault");
    let (well, said) = run(&[repeat[0], repeat[1], planted]);
    assert!(!well, "{said}");
}
