//! The outbox: where sinks stage output by default, in the checkpoint store.
//!
//! An object is a frame of 16 bytes (magic "thwlgout", format version, CRC-32 of the content, both
//! little-endian) and the content. The manifest has length and checksum as well; the frame is for
//! who reads the object without one.

use async_trait::async_trait;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use thalweg_stream::Fault;
use thalweg_stream::sink::{StageStore, StagedObject};

use crate::error::Error;
use crate::name::{OUTBOX, ObjectName};
use crate::store::{Payload, Store};

const VERSION: u32 = 1;
const MAGIC: &[u8; 8] = b"thwlgout";
const FRAME: usize = 16;

/// The stage store that all sinks share.
#[derive(Clone, Debug)]
pub struct Outbox {
    store: Store,
}

impl Outbox {
    /// The outbox of a job's store.
    #[must_use]
    pub fn new(store: Store) -> Self {
        Self { store }
    }

    /// Reads a staged object and checks it.
    ///
    /// # Errors
    /// Corrupt, or the store's.
    pub(crate) async fn read(&self, object: &StagedObject) -> Result<Bytes, Error> {
        let name = ObjectName::outbox(&object.name);
        let framed = self.store.get(&name).await?;
        let content = unframe(&name, framed)?;
        if content.len() as u64 != object.bytes || crc32fast::hash(&content) != object.crc32 {
            return Err(Error::corrupt(&name, "it is not what the manifest lists"));
        }
        Ok(content)
    }
}

#[async_trait]
impl StageStore for Outbox {
    async fn put(&self, name: &str, bytes: Bytes) -> Result<(), Fault> {
        let mut frame = BytesMut::with_capacity(FRAME);
        frame.put_slice(MAGIC);
        frame.put_u32_le(VERSION);
        frame.put_u32_le(crc32fast::hash(&bytes));
        let payload = Payload::from([frame.freeze(), bytes]);
        Ok(self.store.put(&ObjectName::outbox(name), payload).await?)
    }

    async fn get(&self, object: &StagedObject) -> Result<Bytes, Fault> {
        Ok(self.read(object).await?)
    }

    async fn delete(&self, name: &str) -> Result<(), Fault> {
        Ok(self.store.delete(&ObjectName::outbox(name)).await?)
    }

    async fn list(&self, prefix: &str) -> Result<Vec<String>, Fault> {
        let listed = self.store.list(OUTBOX).await?;
        let names = listed.into_iter().filter_map(|found| {
            let name = found.name.as_str().strip_prefix(OUTBOX)?;
            name.starts_with(prefix).then(|| name.to_owned())
        });
        Ok(names.collect())
    }
}

fn unframe(name: &ObjectName, framed: Bytes) -> Result<Bytes, Error> {
    let corrupt = |problem: &str| Error::corrupt(name, problem);
    let mut content = framed;
    if content.len() < FRAME || content.split_to(MAGIC.len()) != MAGIC.as_slice() {
        return Err(corrupt("it is no staged object"));
    }
    let version = content.try_get_u32_le().map_err(|_| corrupt("too short"))?;
    let crc32 = content.try_get_u32_le().map_err(|_| corrupt("too short"))?;
    if version > VERSION {
        return Err(Error::Newer {
            name: name.to_string(),
            kind: "outbox",
            version,
            known: VERSION,
        });
    }
    if version != VERSION || crc32fast::hash(&content) != crc32 {
        return Err(corrupt("its checksum does not match"));
    }
    Ok(content)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use thalweg_stream::sink::{StageStore, StagedObject};
    use thalweg_stream::{Class, Epoch};

    use super::Outbox;
    use crate::name::ObjectName;
    use crate::store::{Access, Store};

    fn staged(name: &str, content: &[u8]) -> StagedObject {
        StagedObject {
            name: name.to_owned(),
            epoch: Epoch(7),
            worker: 0,
            sequence: 0,
            bytes: content.len() as u64,
            crc32: crc32fast::hash(content),
            rows: 1,
            note: serde_json::Value::Null,
        }
    }

    #[tokio::test]
    async fn staged_objects_are_listed_read_and_deleted() {
        let store = Store::open("memory://outbox", Access::Create).unwrap();
        let outbox = Outbox::new(store);
        let content = Bytes::from_static(b"rows");
        for name in ["documents/7-0-0-g1", "documents/7-1-0-g1", "other/7-0-0-g1"] {
            outbox.put(name, content.clone()).await.unwrap();
        }
        let object = staged("documents/7-0-0-g1", b"rows");
        assert_eq!(outbox.get(&object).await, Ok(content));
        assert_eq!(outbox.list("documents/").await.unwrap().len(), 2);
        outbox.delete(&object.name).await.unwrap();
        outbox.delete(&object.name).await.unwrap();
        assert_eq!(outbox.list("documents/7-0").await, Ok(vec![]));
        let gone = outbox.get(&object).await.unwrap_err();
        assert_eq!(gone.class, Class::Corrupt);
        assert_eq!(gone.message, "outbox/documents/7-0-0-g1 is missing");
    }

    #[tokio::test]
    async fn every_flipped_bit_and_every_cut_is_detected() {
        let store = Store::open("memory://outbox-bits", Access::Create).unwrap();
        let outbox = Outbox::new(store.clone());
        let object = staged("documents/7-0-0-g1", b"some rows");
        let name = ObjectName::outbox(&object.name);
        outbox
            .put(&object.name, Bytes::from_static(b"some rows"))
            .await
            .unwrap();
        let whole = store.get(&name).await.unwrap();
        for bit in 0..whole.len() * 8 {
            let mut damaged = whole.to_vec();
            damaged[bit / 8] ^= 1 << (bit % 8);
            store.put(&name, Bytes::from(damaged)).await.unwrap();
            assert!(outbox.get(&object).await.is_err(), "bit {bit}");
        }
        for length in 0..whole.len() {
            store.put(&name, whole.slice(..length)).await.unwrap();
            assert!(outbox.get(&object).await.is_err(), "length {length}");
        }
    }
}
