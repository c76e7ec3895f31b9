//! What a seed's simulation is like: the job's shape, its input and its weather, drawn from the seed.

use std::fmt::{Display, Formatter};
use std::time::Duration;

use thalweg_engine::Limits;
use thalweg_stream::sink::Grouping;

use crate::job::Shape;
use crate::kernel::Scenario;
use crate::record::Input;
use crate::world::{Random, Weather};

/// A simulation before it begins.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) shape: Shape,
    /// The weather until it clears up.
    pub(crate) weather: Weather,
    /// Turns until then.
    pub(crate) foul: u64,
    /// Most time that passes between two turns, microseconds.
    pub(crate) tempo_us: u64,
}

impl Plan {
    pub(crate) fn draw(scenario: &Scenario) -> Self {
        let mut random = Random::new(scenario.seed ^ 0x5eed);
        let calm = scenario.calm.is_some();
        let input = Input::draw(scenario.seed, &mut random, calm);
        let limits = Limits {
            epoch_ms: 10,
            epoch_bytes: random.pick(&[300, 1000, 1 << 20]),
            batch_rows: random.pick(&[1, 7, 8192]),
            unpublished_max: random.pick(&[2, 3, 8]),
            upload_attempts: random.pick(&[1, 2, 4]),
            ..Limits::default()
        };
        let shape = Shape {
            input,
            limits: match calm {
                true => Limits {
                    epoch_bytes: 1 << 20,
                    batch_rows: 8192,
                    unpublished_max: 8,
                    upload_attempts: 4,
                    ..limits
                },
                false => limits,
            },
            checkpoint_every: match scenario.calm {
                Some(calm) => calm.every,
                None => Duration::from_millis(random.pick(&[0, 20, 50, 120])),
            },
            keep: random.pick(&[1, 2, 5, 1000]),
            idle_after_ms: None,
            grouping: None,
            repeats: false,
            guest: false,
        };
        let weather = match calm {
            true => Weather::default(),
            false => Weather::draw(&mut random),
        };
        let mut plan = Self {
            shape,
            weather,
            foul: if calm { 0 } else { 150 + random.below(1300) },
            tempo_us: random.pick(&[200, 800, 3000]),
        };
        match scenario.calm.map(|calm| calm.folds) {
            Some(Some((entries, fences))) => plan.fold(entries, fences),
            Some(None) => {}
            None => plan.vary(&mut random),
        }
        scenario.less.of(plan)
    }

    /// What not every job has.
    fn vary(&mut self, random: &mut Random) {
        let turn_us = self.tempo_us / 4;
        self.weather.publish_slow_us = turn_us * 1000;
        let Self { shape, .. } = self;
        shape.input.reports.endless = random.chance(150);
        shape.input.versions.endless = random.chance(150);
        // So many turns between two bursts, at most.
        let turns = random.pick(&[0, 0, 150, 400]);
        shape.input.apart = Duration::from_micros(turn_us * turns);
        shape.idle_after_ms = random.pick(&[None, Some(5), Some(20)]);
        shape.repeats = random.chance(250);
        shape.grouping = random.chance(350).then(|| Grouping {
            every_ms: random.pick(&[20, 100, 1000]),
            bytes_max: random.pick(&[500, 3000, 1 << 20]),
        });
        self.weather.publish_late = random.pick(&[100, 500, 1000]);
        shape.guest = random.chance(250);
        self.weather.left_out = random.pick(&[0, 0, 2, 8]);
        let entries = random.pick(&[2, 4, 10, 64]);
        self.fold(entries, random.pick(&[1, 6, 1024]));
    }

    /// The job log is folded when it has grown by so many entries, and has so many fences.
    fn fold(&mut self, entries: u64, fences: u64) {
        self.shape.limits.log_entries_max = entries;
        self.shape.limits.log_fences_max = fences;
    }
}

impl Display for Plan {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        let mut weather = self.weather;
        let faults = weather.faults();
        let faults = faults.iter().filter(|(_, often)| **often > 0);
        let faults: Vec<String> = faults
            .map(|(name, often)| format!("{name} {often}"))
            .collect();
        let (turns, tempo_us) = (self.foul, self.tempo_us);
        writeln!(
            f,
            "faults, in a thousand, for {turns} turns of up to {tempo_us} µs: {faults:?}"
        )?;
        write!(f, "{:?}", self.shape)
    }
}
