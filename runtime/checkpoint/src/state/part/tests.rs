//! Parts read back what was written, or say that they are damaged.

use bytes::Bytes;
use thalweg_stream::{Epoch, Generation, Section};

use super::{PartReader, PartRecord, PartWriter, check_whole};
use crate::error::Error;
use crate::name::PartId;
use crate::state::packed;
use crate::store::{Access, Store};

const ID: PartId = PartId {
    epoch: Epoch(7),
    generation: Generation(2),
    worker: 1,
    sequence: 0,
};

fn section(group: u8, base: bool, text: &str) -> Section {
    Section {
        group,
        base,
        bytes: Bytes::copy_from_slice(text.as_bytes()),
    }
}

fn sections() -> Vec<(&'static str, Section)> {
    vec![
        ("window", section(3, true, "three")),
        ("window", section(3, false, &"more of three ".repeat(20))),
        ("window", section(4, false, "")),
        ("dedup", section(255, true, "last")),
    ]
}

fn part() -> (PartRecord, Bytes) {
    let mut writer = PartWriter::new(ID);
    writer.freeze("window", 0..128, false).unwrap();
    for (step, section) in sections() {
        writer.add(step, &packed(&section)).unwrap();
    }
    let finished = writer.finish().unwrap();
    (finished.report.part, finished.content.whole())
}

/// Reads every section, as a restore would.
async fn read(store: &Store, record: &PartRecord) -> Result<Vec<(&'static str, Section)>, Error> {
    let reader = PartReader::open(store, record).await?;
    let mut all = Vec::new();
    for step in ["window", "dedup"] {
        let entries: Vec<_> = reader.index().sections(step).cloned().collect();
        let found = reader.read(&entries).await?;
        all.extend(found.into_iter().map(|section| (step, section)));
    }
    Ok(all)
}

fn store(test: &str) -> Store {
    Store::open(&format!("memory://part-{test}"), Access::Create).unwrap()
}

#[tokio::test]
async fn sections_read_back_in_order() {
    let store = store("read");
    let (record, content) = part();
    store.put(&record.name, content.clone()).await.unwrap();
    assert_eq!(read(&store, &record).await, Ok(sections()));
    assert!(check_whole(&record, &content).is_ok());
}

#[tokio::test]
async fn a_part_without_sections_reads_back() {
    let store = store("empty");
    let finished = PartWriter::new(ID).finish().unwrap();
    let record = finished.report.part;
    store.put(&record.name, finished.content).await.unwrap();
    assert_eq!(read(&store, &record).await, Ok(vec![]));
}

#[tokio::test]
async fn a_large_index_is_fetched_whole() {
    let store = store("large");
    let mut writer = PartWriter::new(ID);
    let many: Vec<_> = (0..5000)
        .map(|i| section((i % 256) as u8, false, "x"))
        .collect();
    for section in &many {
        writer.add("window", &packed(section)).unwrap();
    }
    let finished = writer.finish().unwrap();
    store
        .put(&finished.report.part.name, finished.content)
        .await
        .unwrap();
    let found = read(&store, &finished.report.part).await.unwrap();
    let found: Vec<_> = found.into_iter().map(|(_, section)| section).collect();
    assert_eq!(found, many);
}

#[tokio::test]
async fn a_part_of_many_pieces_reads_back() {
    let store = store("pieces");
    let mut writer = PartWriter::new(ID);
    let mut random = 1_u64;
    let noise = || {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (random >> 56) as u8
    };
    let noise: Bytes = std::iter::repeat_with(noise).take(3 << 20).collect();
    let mut all = Vec::new();
    for (group, range) in [0..10, 10..700_000, 700_000..3_000_000, 3_000_000..3_000_005]
        .into_iter()
        .enumerate()
    {
        let section = Section {
            group: group as u8,
            base: false,
            bytes: noise.slice(range),
        };
        writer.add("window", &packed(&section)).unwrap();
        all.push(("window", section));
    }
    let finished = writer.finish().unwrap();
    let (record, content) = (finished.report.part, finished.content);
    assert!(check_whole(&record, &content.whole()).is_ok());
    store.put(&record.name, content).await.unwrap();
    assert_eq!(read(&store, &record).await, Ok(all));
}

#[tokio::test]
async fn every_flipped_bit_is_detected() {
    let store = store("bits");
    let (record, content) = part();
    for bit in 0..content.len() * 8 {
        let mut damaged = content.to_vec();
        damaged[bit / 8] ^= 1 << (bit % 8);
        assert!(check_whole(&record, &damaged).is_err(), "bit {bit}");
        store.put(&record.name, Bytes::from(damaged)).await.unwrap();
        let found = read(&store, &record).await;
        assert!(
            matches!(found, Err(Error::Corrupt { .. })),
            "bit {bit}: {found:?}"
        );
    }
}

#[tokio::test]
async fn every_cut_and_what_is_appended_is_detected() {
    let store = store("cuts");
    let (record, content) = part();
    for length in 0..content.len() {
        let cut = content.slice(..length);
        assert!(check_whole(&record, &cut).is_err(), "length {length}");
        store.put(&record.name, cut.clone()).await.unwrap();
        assert!(read(&store, &record).await.is_err(), "length {length}");
        // Also if the manifest believed in it.
        let short = PartRecord {
            bytes: length as u64,
            ..record.clone()
        };
        assert!(read(&store, &short).await.is_err(), "length {length}");
    }
    let longer = Bytes::from([&content[..], b"x"].concat());
    store.put(&record.name, longer).await.unwrap();
    assert!(read(&store, &record).await.is_err());
}

#[tokio::test]
async fn a_part_is_never_taken_for_another() {
    let store = store("swap");
    let (record, _) = part();
    let other = PartId { worker: 2, ..ID };
    let mut writer = PartWriter::new(other);
    for (step, section) in sections() {
        writer.add(step, &packed(&section)).unwrap();
    }
    let other = writer.finish().unwrap();
    assert_eq!(other.content.whole().len() as u64, record.bytes);
    store.put(&record.name, other.content).await.unwrap();
    assert!(matches!(
        read(&store, &record).await,
        Err(Error::Corrupt { .. })
    ));
}

#[test]
fn a_newer_part_is_refused_by_name() {
    let (record, content) = part();
    let mut newer = content.to_vec();
    let footer = newer.len() - super::FOOTER;
    newer[footer + 16] = 2;
    let crc = super::footer_crc(&newer[footer..footer + 20]);
    newer[footer + 20..footer + 24].copy_from_slice(&crc.to_le_bytes());
    let record = PartRecord {
        crc32: crc32fast::hash(&newer),
        ..record
    };
    assert_eq!(
        check_whole(&record, &newer).unwrap_err().to_string(),
        "state/7-g2/w1 has state format 2, and this program knows formats up to 1"
    );
}
