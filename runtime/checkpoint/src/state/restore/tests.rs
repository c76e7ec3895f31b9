//! A model of key groups is written through random freezes and comes back the same.

use std::collections::BTreeMap;
use std::ops::Range;

use bytes::Bytes;
use thalweg_stream::{Epoch, Generation, Section};

use super::{Restorer, SECTIONS_MAX};
use crate::error::Error;
use crate::name::PartId;
use crate::state::{PartWriter, StateChains, packed};
use crate::store::{Access, Store};

/// A small generator (splitmix64), so that a failure names its seed.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}

/// What the state of each group should be: the contents written since its last base.
type Model = BTreeMap<u8, Vec<Bytes>>;

fn owned(worker: usize, workers: usize) -> Range<usize> {
    worker * 256 / workers..(worker + 1) * 256 / workers
}

async fn read(restorer: &Restorer, groups: Range<usize>) -> Result<Model, Error> {
    let mut sections = restorer.sections("window", groups)?;
    let mut model = Model::new();
    while let Some(batch) = sections.next().await? {
        assert!(batch.len() <= SECTIONS_MAX);
        for section in batch {
            let contents = model.entry(section.group).or_default();
            if section.base {
                contents.clear();
            }
            contents.push(section.bytes);
        }
    }
    Ok(model)
}

#[tokio::test]
async fn state_comes_back_for_any_history_of_freezes_and_workers() {
    for seed in 0..12 {
        let store = Store::open(&format!("memory://restore-{seed}"), Access::Create).unwrap();
        let mut random = Random(seed);
        let mut chains = StateChains::default();
        let mut model = Model::new();
        for epoch in 1..30 {
            let workers = [1, 2, 3, 4][random.below(4) as usize];
            let mut reports = Vec::new();
            for worker in 0..workers {
                let groups = owned(worker, workers);
                let full = chains.lacks("window") || random.below(9) == 0;
                let id = PartId {
                    epoch: Epoch(epoch),
                    generation: Generation(1),
                    worker: worker as u32,
                    sequence: 0,
                };
                let mut writer = PartWriter::new(id);
                writer.freeze("window", groups.clone(), full).unwrap();
                for group in groups {
                    let group = group as u8;
                    if full {
                        model.remove(&group);
                    }
                    // A few groups change, some have gone by the time of a full freeze.
                    for _ in 0..random.below(3).saturating_sub(u64::from(!full)) {
                        let bytes = Bytes::from(random.below(1 << 40).to_string());
                        let contents = model.entry(group).or_default();
                        let base = full && contents.is_empty() || random.below(20) == 0;
                        if base {
                            contents.clear();
                        }
                        contents.push(bytes.clone());
                        let section = Section { group, base, bytes };
                        writer.add("window", &packed(&section)).unwrap();
                    }
                }
                let finished = writer.finish().unwrap();
                let name = &finished.report.part.name;
                store.put(name, finished.content).await.unwrap();
                reports.push(finished.report);
            }
            chains = chains.advance(reports).unwrap();
            let restorer = Restorer::open(&store, &chains).await.unwrap();
            let workers = 1 + random.below(5) as usize;
            let mut found = Model::new();
            for worker in 0..workers {
                let groups = owned(worker, workers);
                found.append(&mut read(&restorer, groups).await.unwrap());
            }
            assert_eq!(found, model, "seed {seed}, epoch {epoch}");
        }
    }
}

#[tokio::test]
async fn a_part_cut_in_two_is_one_freeze() {
    let store = Store::open("memory://restore-cut", Access::Create).unwrap();
    let write = |epoch, sequence| {
        PartWriter::new(PartId {
            epoch: Epoch(epoch),
            generation: Generation(1),
            worker: 0,
            sequence,
        })
    };
    let section = |group, base, text: &'static str| {
        packed(&Section {
            group,
            base,
            bytes: Bytes::from_static(text.as_bytes()),
        })
    };
    let mut old = write(1, 0);
    old.freeze("window", 0..256, true).unwrap();
    old.add("window", &section(1, true, "old")).unwrap();
    let mut first = write(2, 0);
    first.freeze("window", 0..256, true).unwrap();
    first.add("window", &section(1, true, "one")).unwrap();
    let mut second = write(2, 1);
    second.add("window", &section(1, false, "two")).unwrap();
    second.add("window", &section(2, true, "three")).unwrap();
    let mut chains = StateChains::default();
    for parts in [vec![old], vec![first, second]] {
        let mut reports = Vec::new();
        for part in parts {
            let finished = part.finish().unwrap();
            let name = &finished.report.part.name;
            store.put(name, finished.content).await.unwrap();
            reports.push(finished.report);
        }
        chains = chains.advance(reports).unwrap();
    }
    assert_eq!(chains.parts.len(), 2);
    let restorer = Restorer::open(&store, &chains).await.unwrap();
    let found = read(&restorer, 0..256).await.unwrap();
    let expected: Model = [
        (1, vec!["one".into(), "two".into()]),
        (2, vec!["three".into()]),
    ]
    .into();
    assert_eq!(found, expected);
    assert_eq!(read(&restorer, 0..2).await.unwrap().len(), 1);
    let unknown = restorer.sections("other", 0..256).unwrap().next().await;
    assert_eq!(unknown, Ok(None));
}

#[tokio::test]
async fn a_part_without_what_the_manifest_lists_is_corrupt() {
    let store = Store::open("memory://restore-lists", Access::Create).unwrap();
    let mut writer = PartWriter::new(PartId {
        epoch: Epoch(1),
        generation: Generation(1),
        worker: 0,
        sequence: 0,
    });
    let section = Section {
        group: 1,
        base: true,
        bytes: Bytes::from_static(b"x"),
    };
    writer.add("window", &packed(&section)).unwrap();
    let mut finished = writer.finish().unwrap();
    let name = finished.report.part.name.clone();
    store.put(&name, finished.content).await.unwrap();
    finished
        .report
        .links
        .get_mut("window")
        .unwrap()
        .groups
        .insert(2);
    let chains = StateChains::default()
        .advance(vec![finished.report])
        .unwrap();
    let restorer = Restorer::open(&store, &chains).await.unwrap();
    assert!(restorer.sections("window", 0..2).is_ok());
    assert!(restorer.sections("window", 0..3).is_err());
}
