//! How the processes of an attempt find each other.
//!
//! Followers connect to the leader, twice, and tell it where they listen; the leader tells all of them
//! where the others are; each connects to those before it and waits for those after it, and says that
//! it is done. When all have, the mesh is made.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::hello::Role;
use crate::listen::{Listener, connect};
use crate::{Control, Error, Fate, Secret, Stream};

/// Which attempt of the job a process means: by its generation, which the job log counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// This one.
    Is(u64),
    /// Whichever comes after this one: a process that follows learns it from the leader.
    After(u64),
}

/// One process of an attempt, as the others have to know it.
#[derive(Clone, Debug)]
pub struct Member {
    /// The job's name.
    pub job: Arc<str>,
    /// The attempt.
    pub attempt: Attempt,
    /// Which process this is; 0 leads.
    pub process: usize,
    /// How many there are.
    pub processes: usize,
    /// What only they know.
    pub secret: Secret,
}

/// Another process, as the leader has it.
#[derive(Debug)]
pub struct Peer {
    /// For messages.
    pub control: Control,
    /// For the dataflow.
    pub data: Stream,
    /// Whether it is lost.
    pub fate: Fate,
}

/// The mesh, as one that follows has it.
#[derive(Debug)]
pub struct Joined {
    /// The attempt.
    pub generation: u64,
    /// To the leader.
    pub control: Control,
    /// To every process, in order; none to itself.
    pub data: Vec<Option<Stream>>,
    /// Whether the leader is lost.
    pub fate: Fate,
}

/// What is said before the mesh is made.
#[derive(Debug, Serialize, Deserialize)]
enum Word {
    /// Where the sender listens.
    Listening(String),
    /// Where all listen; the leader's is empty.
    Addresses(Vec<String>),
    /// The sender is connected to all others.
    Connected,
}

impl Member {
    /// As process 0: waits for the others at `listener`. A process that is not one of them is refused
    /// and changes nothing. `fates` has one for every process, in order; whoever sees a process end
    /// tells it, and whoever wants to know asks it.
    ///
    /// # Errors
    /// Not all of them are there and connected with each other when `patience` is at its end, or one is
    /// lost before. The message says which.
    ///
    /// # Cancel safety
    /// Those that have come are disconnected.
    pub async fn lead(
        &self,
        listener: &Listener,
        patience: Duration,
        fates: &[Fate],
    ) -> Result<Vec<Peer>, Error> {
        let mut losses = JoinSet::new();
        for (process, fate) in fates.iter().cloned().enumerate().skip(1) {
            losses.spawn(async move { lost(process, &fate.lost().await) });
        }
        // One that came and went is not waited for until the others have come, too.
        tokio::select! {
            peers = self.gather(listener, patience, fates) => peers,
            Some(Ok(error)) = losses.join_next() => Err(error),
        }
    }

    async fn gather(
        &self,
        listener: &Listener,
        patience: Duration,
        fates: &[Fate],
    ) -> Result<Vec<Peer>, Error> {
        let others = 1..self.processes;
        let wanted = others.clone().flat_map(roles).collect();
        let (mut controls, mut streams) = (BTreeMap::new(), BTreeMap::new());
        let arrived = |process, role, socket: crate::listen::Socket| {
            let fate = fates
                .get(process)
                .ok_or_else(|| lost(process, "nobody asks for it"))?;
            match role {
                Role::Control => {
                    controls.insert(process, Control::new(socket.halves(), fate));
                }
                Role::Data => {
                    streams.insert(process, socket.blocking(process, fate)?);
                }
            }
            Ok(())
        };
        listener.admit(self, wanted, patience, arrived).await?;
        let mut addresses = vec![String::new()];
        for (&process, control) in &mut controls {
            match hear(process, control, patience).await? {
                Word::Listening(address) => addresses.push(address),
                word @ (Word::Addresses(_) | Word::Connected) => {
                    return Err(out_of_turn(process, &word));
                }
            }
        }
        for (&process, control) in &controls {
            say(process, control, &Word::Addresses(addresses.clone())).await?;
        }
        for (&process, control) in &mut controls {
            match hear(process, control, patience).await? {
                Word::Connected => {}
                word @ (Word::Listening(_) | Word::Addresses(_)) => {
                    return Err(out_of_turn(process, &word));
                }
            }
        }
        let links = controls.into_values().zip(streams.into_values());
        let peers = links.zip(fates.iter().skip(1));
        Ok(peers
            .map(|((control, data), fate)| Peer {
                control,
                data,
                fate: fate.clone(),
            })
            .collect())
    }

    /// As one that follows: connects to the leader at `leader`, "host:port", and to all others. They
    /// reach this one at `address`, where `listener` listens.
    ///
    /// # Errors
    /// The leader is not there until `patience` is at its end, refuses this process, or is lost; or one
    /// of the others is. The message says which.
    ///
    /// # Cancel safety
    /// Connections that are made are ended.
    pub async fn join(
        &self,
        leader: &str,
        listener: &Listener,
        address: String,
        patience: Duration,
    ) -> Result<Joined, Error> {
        let fate = Fate::default();
        let tls = listener.tls();
        let (socket, generation) = connect(self, Role::Control, 0, leader, tls, patience).await?;
        let control = Control::new(socket.halves(), &fate);
        let member = Self {
            attempt: Attempt::Is(generation),
            ..self.clone()
        };
        // Without the leader this attempt is over, and the next one may wait for this process.
        let (control, data) = tokio::select! {
            connected = member.connect(leader, listener, address, patience, control, &fate) => connected?,
            reason = fate.lost() => return Err(lost(0, &reason)),
        };
        Ok(Joined {
            generation,
            control,
            data,
            fate,
        })
    }

    /// The rest of [`Self::join`], when the leader has let this process in.
    async fn connect(
        &self,
        leader: &str,
        listener: &Listener,
        address: String,
        patience: Duration,
        mut control: Control,
        fate: &Fate,
    ) -> Result<(Control, Vec<Option<Stream>>), Error> {
        let tls = listener.tls();
        let (socket, _) = connect(self, Role::Data, 0, leader, tls, patience).await?;
        let mut data: Vec<Option<Stream>> = (0..self.processes).map(|_| None).collect();
        put(&mut data, 0, socket, fate)?;
        say(0, &control, &Word::Listening(address)).await?;
        let addresses = match hear(0, &mut control, patience).await? {
            Word::Addresses(addresses) => addresses,
            word @ (Word::Listening(_) | Word::Connected) => return Err(out_of_turn(0, &word)),
        };
        for (process, address) in addresses.iter().enumerate().take(self.process).skip(1) {
            let connected = connect(self, Role::Data, process, address, tls, patience).await?;
            put(&mut data, process, connected.0, &Fate::default())?;
        }
        let later: BTreeSet<_> = (self.process + 1..self.processes)
            .map(|process| (process, Role::Data))
            .collect();
        // Fates of their own: if one of these is lost, the leader is still there to be told which.
        let arrived = |process, _, socket| put(&mut data, process, socket, &Fate::default());
        listener.admit(self, later, patience, arrived).await?;
        say(0, &control, &Word::Connected).await?;
        Ok((control, data))
    }
}

fn roles(process: usize) -> [(usize, Role); 2] {
    [(process, Role::Control), (process, Role::Data)]
}

fn put(
    data: &mut [Option<Stream>],
    process: usize,
    socket: crate::listen::Socket,
    fate: &Fate,
) -> Result<(), Error> {
    if let Some(place) = data.get_mut(process) {
        *place = Some(socket.blocking(process, fate)?);
    }
    Ok(())
}

async fn say(process: usize, control: &Control, word: &Word) -> Result<(), Error> {
    let text = serde_json::to_vec(word).map_err(|e| Error::io("a message", e.into()))?;
    let sent = control.outgoing.send(Bytes::from(text)).await;
    sent.map_err(|_| lost(process, "it has closed its connection"))
}

async fn hear(process: usize, control: &mut Control, patience: Duration) -> Result<Word, Error> {
    match timeout(patience, control.incoming.recv()).await {
        Err(_) => Err(lost(process, "it does not say what it has to")),
        Ok(None) => Err(lost(process, "it has closed its connection")),
        Ok(Some(Err(fault))) => Err(lost(process, &fault.message)),
        Ok(Some(Ok(text))) => serde_json::from_slice(&text)
            .map_err(|error| lost(process, &format!("a message cannot be read: {error}"))),
    }
}

fn out_of_turn(process: usize, word: &Word) -> Error {
    lost(process, &format!("it says {word:?} out of turn"))
}

fn lost(process: usize, reason: &str) -> Error {
    Error::Lost {
        process,
        reason: reason.to_owned(),
    }
}
