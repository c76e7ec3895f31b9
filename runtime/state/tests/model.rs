//! Random updates, deletions, dropped panes, freezes, drains, failed checkpoints and restores onto
//! other numbers of workers, against plain maps that are copied at each freeze.

#![allow(clippy::unwrap_used, reason = "a test may fail")]
#![allow(clippy::print_stdout, reason = "the seed of a test that fails")]

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use thalweg_state::{
    Entry, FingerprintSet, Key, KeyBlock, KeyedTable, Layout, Part, Register, Sections, fingerprint,
};
use thalweg_stream::Section;
use thalweg_stream::key::{KEY_GROUPS, owner};

const LAYOUT: Layout = Layout {
    words: 2,
    payload: true,
};

type Rows = BTreeMap<(i64, Vec<u8>), ([u64; 2], Vec<u8>)>;

#[derive(Clone, Debug, Default, PartialEq)]
struct Model {
    rows: Rows,
    prints: BTreeSet<(i64, u128, i64)>,
    register: i64,
}

struct Worker {
    table: KeyedTable,
    set: FingerprintSet,
    register: Register,
    sections: Sections,
    groups: Range<usize>,
}

impl Worker {
    fn new(worker: usize, workers: usize) -> Self {
        let owned: Vec<usize> = (0..KEY_GROUPS)
            .filter(|&g| owner(g as u8, workers) == worker)
            .collect();
        let groups = owned[0]..owned[owned.len() - 1] + 1;
        Self {
            table: KeyedTable::new(LAYOUT),
            set: FingerprintSet::new(true),
            register: Register::new(0),
            sections: Sections::new(groups.clone()),
            groups,
        }
    }

    fn freeze(&mut self, full: bool) {
        let parts: &mut [&mut dyn Part] = &mut [&mut self.table, &mut self.set, &mut self.register];
        self.sections.freeze(full, parts);
    }

    fn drain(&mut self, budget: usize, to: &mut Vec<Section>) -> bool {
        let parts: &mut [&mut dyn Part] = &mut [&mut self.table, &mut self.set, &mut self.register];
        self.sections.drain(budget, to, parts)
    }

    fn thaw(&mut self) {
        let parts: &mut [&mut dyn Part] = &mut [&mut self.table, &mut self.set, &mut self.register];
        self.sections.thaw(parts);
    }

    fn restore(&mut self, section: &Section) {
        let parts: &mut [&mut dyn Part] = &mut [&mut self.table, &mut self.set, &mut self.register];
        Sections::restore(section, parts).unwrap();
    }

    fn read(&self, model: &mut Model, keys: &BTreeSet<Vec<u8>>) {
        for (id, pane) in self.table.panes() {
            // However it came about: what results are put out by has one order.
            let order = |entry: &Entry<'_>| (entry.hash, entry.key.as_slice().to_vec());
            assert!(pane.sorted().is_sorted_by_key(|entry| order(&entry)));
            for entry in pane.sorted() {
                let words = [entry.words[0], entry.words[1]];
                let key = entry.key.as_slice().to_vec();
                assert_eq!(pane.find(&Key::of(&key)), Some(entry.slot));
                model
                    .rows
                    .insert((id, key), (words, entry.payload.to_vec()));
            }
        }
        for id in self.set.pane_ids() {
            let pane = self.set.pane(id).unwrap();
            for key in keys {
                let print = fingerprint(key);
                if let Some(time) = pane.time(Key::of(key).group(), print) {
                    model.prints.insert((id, print, time));
                }
            }
        }
        model.register = model.register.max(self.register.get());
    }
}

/// How much there is of everything.
#[derive(Clone, Copy)]
struct Scale {
    keys: u32,
    /// Bytes of a key that is too long for its slot.
    key_bytes: usize,
    payload_bytes: usize,
    budget: usize,
}

const SMALL: Scale = Scale {
    keys: 400,
    key_bytes: 40,
    payload_bytes: 200,
    budget: 20_000,
};

/// A key's group has more to say than fits a section.
const LARGE: Scale = Scale {
    keys: 30,
    key_bytes: 20_000,
    payload_bytes: 40_000,
    budget: 300_000,
};

impl Scale {
    /// What no section reaches: of each of two parts, two chunks and the operation that fills one.
    fn section_bytes_max(self) -> usize {
        2 * (2 * (64 << 10) + self.key_bytes + self.payload_bytes)
    }
}

struct World {
    scale: Scale,
    rng: SmallRng,
    workers: Vec<Worker>,
    model: Model,
    keys: BTreeSet<Vec<u8>>,
    /// Per group, the sections of the committed checkpoint.
    committed: BTreeMap<u8, Vec<Section>>,
    committed_model: Model,
    /// Most sections that a snapshot had of one group.
    sections_most: usize,
}

impl World {
    fn new(seed: u64, scale: Scale) -> Self {
        let mut world = Self {
            scale,
            rng: SmallRng::seed_from_u64(seed),
            workers: Vec::new(),
            model: Model::default(),
            keys: BTreeSet::new(),
            committed: BTreeMap::new(),
            committed_model: Model::default(),
            sections_most: 0,
        };
        world.restart();
        world
    }

    fn restart(&mut self) {
        let workers = self.rng.random_range(1..=4);
        self.workers = (0..workers).map(|w| Worker::new(w, workers)).collect();
        for (&group, sections) in &self.committed {
            let worker = owner(group, workers);
            assert!(self.workers[worker].groups.contains(&usize::from(group)));
            for section in sections {
                self.workers[worker].restore(section);
            }
        }
        self.model = self.committed_model.clone();
        self.check();
    }

    fn check(&self) {
        let mut read = Model::default();
        for worker in &self.workers {
            worker.read(&mut read, &self.keys);
        }
        for (key, row) in &self.model.rows {
            assert_eq!(read.rows.get(key), Some(row), "{key:?}");
        }
        for key in read.rows.keys() {
            assert!(self.model.rows.contains_key(key), "{key:?} is back");
        }
        assert_eq!(read, self.model);
        let len: usize = self.workers.iter().map(|w| w.table.len()).sum();
        assert_eq!(len, self.model.rows.len());
        let len: usize = self.workers.iter().map(|w| w.set.len()).sum();
        assert_eq!(len, self.model.prints.len());
    }

    fn random_key(&mut self) -> Vec<u8> {
        let number: u32 = self.rng.random_range(0..self.scale.keys);
        let mut key = number.to_le_bytes().to_vec();
        // Every third key is too long for its slot.
        if number.is_multiple_of(3) {
            key.resize(self.scale.key_bytes, b'k');
        }
        self.keys.insert(key.clone());
        key
    }

    fn step(&mut self) {
        let key_bytes = self.random_key();
        let key = Key::of(&key_bytes);
        let pane_id = self.rng.random_range(-2..4);
        let at = owner(key.group(), self.workers.len());
        let worker = &mut self.workers[at];
        match self.rng.random_range(0..100) {
            0..55 => {
                let mut pane = worker.table.pane_mut(pane_id);
                let mut many = Vec::new();
                if self.rng.random_bool(0.5) {
                    let mut block = KeyBlock::default();
                    block.push(key);
                    block.push(key);
                    pane.touch_all(&block, &mut many);
                }
                let (slot, new) = pane.touch(&key);
                assert!(many.iter().all(|&s| s == slot) && (many.is_empty() || !new));
                let new = new || pane.as_ref().words(slot) == [0, 0];
                let row = (self.model.rows).entry((pane_id, key_bytes.clone()));
                assert_eq!(
                    new,
                    matches!(row, std::collections::btree_map::Entry::Vacant(_))
                );
                let row = row.or_default();
                let word: u64 = self.rng.random();
                pane.touched_mut(slot)[0] = word;
                pane.words_mut(slot)[1] += 1;
                row.0[0] = word;
                row.0[1] += 1;
                if self.rng.random_bool(0.5) {
                    let length = self.rng.random_range(0..self.scale.payload_bytes);
                    let payload = vec![self.rng.random(); length];
                    pane.set_payload(slot, &payload);
                    row.1 = payload;
                }
            }
            55..75 => {
                let removed = worker.table.pane_mut(pane_id).remove(&key);
                let was = self.model.rows.remove(&(pane_id, key_bytes)).is_some();
                assert_eq!(removed, was);
            }
            75..95 => {
                let print = fingerprint(&key_bytes);
                let time = self.rng.random_range(0..5);
                let known = (self.model.prints.range((pane_id, print, i64::MIN)..))
                    .next()
                    .is_some_and(|&(p, f, _)| (p, f) == (pane_id, print));
                assert_eq!(worker.set.insert(pane_id, key.group(), print, time), !known);
                if !known {
                    self.model.prints.insert((pane_id, print, time));
                }
            }
            95..97 => {
                for worker in &mut self.workers {
                    worker.table.drop_pane(pane_id);
                    worker.set.drop_pane(pane_id);
                }
                self.model.rows.retain(|(pane, _), _| *pane != pane_id);
                self.model.prints.retain(|(pane, _, _)| *pane != pane_id);
            }
            _ => {
                self.model.register += 1;
                for worker in &mut self.workers {
                    worker.register.raise(self.model.register);
                }
            }
        }
    }

    /// Freezes all workers, drains while updates go on, and commits or fails.
    fn checkpoint(&mut self) {
        let full = self.rng.random_bool(0.2);
        for worker in &mut self.workers {
            worker.freeze(full);
        }
        let at_freeze = self.model.clone();
        let fails_at = self
            .rng
            .random_bool(0.3)
            .then(|| self.rng.random_range(0..40));
        let mut sections = Vec::new();
        for round in 0.. {
            if fails_at.is_some_and(|at| at <= round) {
                match self.rng.random_range(0..10) {
                    0 => self.restart(),
                    // Nothing was fetched: the next freeze must see that by itself.
                    1 if round == 0 => {}
                    _ => self.workers.iter_mut().for_each(Worker::thaw),
                }
                return;
            }
            for _ in 0..self.rng.random_range(0..30) {
                self.step();
            }
            let budget = self.rng.random_range(1..self.scale.budget);
            let bound = budget + self.scale.section_bytes_max();
            let done = (self.workers.iter_mut()).map(|worker| {
                let before = sections.len();
                let done = worker.drain(budget, &mut sections);
                let bytes = sections[before..].iter().map(|section| section.bytes.len());
                assert!(
                    bytes.sum::<usize>() < bound,
                    "a slice is longer than asked for"
                );
                done
            });
            if done.fold(true, |all, one| all & one) {
                break;
            }
        }
        if fails_at.is_some() {
            self.workers.iter_mut().for_each(Worker::thaw);
            return;
        }
        self.check_sections(&sections, full);
        for section in sections {
            let chain = self.committed.entry(section.group).or_default();
            if section.base {
                chain.clear();
            }
            chain.push(section);
        }
        self.committed_model = at_freeze;
    }

    /// No section is long, and of those of a group the first one replaces what was before, if all
    /// of the state was asked for.
    fn check_sections(&mut self, sections: &[Section], full: bool) {
        let mut of_group: BTreeMap<u8, usize> = BTreeMap::new();
        for section in sections {
            let before = of_group.entry(section.group).or_default();
            assert_eq!(section.base, full && *before == 0);
            *before += 1;
            assert!(section.bytes.len() < self.scale.section_bytes_max());
        }
        assert!(!full || of_group.len() == KEY_GROUPS);
        let most = of_group.into_values().max().unwrap_or_default();
        self.sections_most = self.sections_most.max(most);
    }
}

#[test]
fn snapshots_are_the_state_at_their_freeze() {
    run(60, SMALL);
}

#[test]
fn a_group_with_much_to_say_is_handed_out_in_pieces() {
    assert!(run(15, LARGE) > 3);
}

/// Most sections that a snapshot had of one group.
fn run(seeds: u64, scale: Scale) -> usize {
    let mut sections_most = 0;
    for seed in 0..seeds {
        println!("seed {seed}");
        let mut world = World::new(seed, scale);
        for _ in 0..25 {
            for _ in 0..world.rng.random_range(0..200) {
                world.step();
            }
            world.checkpoint();
            if world.rng.random_bool(0.3) {
                world.restart();
            }
        }
        world.check();
        world.restart();
        sections_most = sections_most.max(world.sections_most);
    }
    sections_most
}

#[test]
fn damaged_sections_are_refused_and_do_not_panic() {
    let mut world = World::new(7, SMALL);
    for _ in 0..300 {
        world.step();
    }
    let mut sections = Vec::new();
    for worker in &mut world.workers {
        worker.freeze(true);
        assert!(worker.drain(usize::MAX, &mut sections));
    }
    assert_eq!(sections.len(), KEY_GROUPS);
    for section in sections.iter().filter(|s| s.bytes.len() > 60).take(10) {
        for cut in 0..section.bytes.len() {
            let mut worker = Worker::new(0, 1);
            let parts: &mut [&mut dyn Part] =
                &mut [&mut worker.table, &mut worker.set, &mut worker.register];
            let cut = Section {
                bytes: section.bytes.slice(..cut),
                ..section.clone()
            };
            assert!(Sections::restore(&cut, parts).is_err());
        }
        let mut newer = section.bytes.to_vec();
        newer[0] += 1;
        let mut worker = Worker::new(0, 1);
        let parts: &mut [&mut dyn Part] =
            &mut [&mut worker.table, &mut worker.set, &mut worker.register];
        let newer = Section {
            bytes: newer.into(),
            ..section.clone()
        };
        let fault = Sections::restore(&newer, parts).unwrap_err();
        assert!(fault.message.contains("format version 2"), "{fault}");
    }
}
