//! What a run stands on: cores, the origin, the peers that run.
//!
//! Owns their start and end. Never measures.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, bail};

use super::catalogue::{Call, Variant};
use crate::origin::Origin;
use crate::peers::{Peer, PeerKind, Setup, StartError, start};
use crate::programs::Programs;
use crate::result::{PeerInfo, Settings};
use crate::stats::{Build, median};

/// Where the endpoints of every agent are.
pub(super) const ADDRESSES: [Ipv4Addr; 3] =
    [Ipv4Addr::LOCALHOST, Ipv4Addr::new(127, 0, 0, 2), Ipv4Addr::new(127, 0, 0, 3)];

/// How a run is made.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) rounds: u32,
    /// Of one measurement.
    pub(super) duration: Duration,
    pub(super) warm_up: Duration,
    /// Agents in each peer's table.
    pub(super) agents: usize,
    /// Connections and streams are divided by this: 1, or more in a smoke test.
    pub(super) shrink: u32,
    pub(super) peers: Vec<PeerKind>,
    pub(super) proxy_cores: Vec<usize>,
    pub(super) load_cores: Vec<usize>,
    /// Krypton's, by how they were built.
    pub(super) programs: Vec<(Build, Programs)>,
    pub(super) smoke: bool,
}

/// A run's processes.
pub(super) struct Stage {
    pub(super) plan: Plan,
    pub(super) origin: Origin,
    /// Whether generator and origin do not sleep.
    pub(super) busy_poll: bool,
    fleet: Vec<(Key, Peer)>,
    /// Everybody who was started or missing, by name.
    pub(super) seen: BTreeMap<String, PeerInfo>,
    /// Configurations of which `seen` tells.
    told: BTreeSet<String>,
    /// Configurations in which a peer did not start or does not work: they are not tried again.
    broken: Vec<Key>,
    /// What a reader of the present scenario should know.
    notes: Vec<String>,
    /// What each was seen to do at most, in calls a second, whenever it was looked for; by whether the others slept.
    capacity: BTreeMap<(String, bool), Vec<f64>>,
}

/// What makes a peer another one.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Key {
    variant: Variant,
    agents: usize,
    cores: Vec<usize>,
}

// === impl Plan ===

impl Plan {
    pub(super) fn settings(&self) -> Settings {
        Settings {
            rounds: self.rounds,
            seconds: self.duration.as_secs_f64(),
            agents: self.agents,
            proxy_cores: self.proxy_cores.clone(),
            load_cores: self.load_cores.clone(),
            smoke: self.smoke,
        }
    }

    /// The builds of Krypton that take part.
    pub(super) fn builds(&self) -> Vec<Build> {
        self.programs.iter().map(|(build, _)| *build).collect()
    }

    /// Where those of that build are.
    ///
    /// # Panics
    /// When no such build takes part.
    pub(super) fn programs_of(&self, build: Build) -> &Programs {
        let found = self.programs.iter().find(|(of, _)| *of == build);
        found.map(|(_, programs)| programs).expect("variants are made for the builds that there are")
    }

    /// So many, or fewer in a smoke test; never none.
    pub(super) fn shrunk(&self, count: u32) -> u32 {
        (count / self.shrink).max(1)
    }
}

// === impl Stage ===

impl Stage {
    pub(super) async fn set(plan: Plan) -> anyhow::Result<Self> {
        let origin = start_origin(&ADDRESSES, &plan.load_cores, false).await?;
        Ok(Self {
            plan,
            origin,
            busy_poll: false,
            fleet: Vec::new(),
            seen: BTreeMap::new(),
            told: BTreeSet::new(),
            broken: Vec::new(),
            notes: Vec::new(),
            capacity: BTreeMap::new(),
        })
    }

    /// The peer in that configuration, started if it does not run yet; `None` where it takes no part.
    ///
    /// # Errors
    /// When it is Krypton, and does not work: without that there is nothing to compare.
    pub(super) async fn peer(&mut self, variant: Variant) -> anyhow::Result<Option<&mut Peer>> {
        let (agents, cores) = (self.plan.agents, self.plan.proxy_cores.clone());
        self.peer_with(variant, agents, &cores).await
    }

    /// The same, with another table or on other cores.
    ///
    /// # Errors
    /// As [`Self::peer`].
    pub(super) async fn peer_with(
        &mut self,
        variant: Variant,
        agents: usize,
        cores: &[usize],
    ) -> anyhow::Result<Option<&mut Peer>> {
        let name = variant.peer.to_string();
        let key = Key { variant, agents, cores: cores.to_vec() };
        let is_missing = self.seen.get(&name).is_some_and(|info| info.missing.is_some());
        if is_missing || self.broken.contains(&key) {
            return Ok(None);
        }
        if let Some(at) = self.fleet.iter().position(|(found, _)| *found == key) {
            return Ok(Some(&mut self.fleet[at].1));
        }
        let setup = self.setup(variant, agents, cores);
        match checked(variant, &setup).await {
            Ok(peer) => {
                self.tell(name, variant, peer.info());
                self.fleet.push((key, peer));
                Ok(self.fleet.last_mut().map(|(_, peer)| peer))
            }
            Err(StartError::Missing { what, how_to_get }) => {
                eprintln!("{name} takes no part: {what} is not there. {how_to_get}");
                let missing = Some(format!("{what} is not there. {how_to_get}"));
                self.seen.insert(name.clone(), PeerInfo { missing, ..PeerInfo::named(&name) });
                Ok(None)
            }
            Err(StartError::Failed(error)) if variant.peer == PeerKind::Krypton => Err(error),
            // One that this machine has in a version that does not fit must not take the others' figures along.
            Err(StartError::Failed(error)) => {
                let why = format!("{} takes no part: {error:#}", variant.named());
                eprintln!("{why}");
                self.notes.push(why);
                self.broken.push(key);
                Ok(None)
            }
        }
    }

    /// Remembers how a peer was started, in each configuration once.
    fn tell(&mut self, name: String, variant: Variant, info: PeerInfo) {
        if !self.told.insert(variant.named()) {
            return;
        }
        match self.seen.entry(name) {
            Entry::Vacant(place) => drop(place.insert(info)),
            Entry::Occupied(mut known) => known.get_mut().add(&variant.label(), info),
        }
    }

    /// What a reader of the scenario that has just ended should know.
    pub(super) fn take_notes(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notes)
    }

    /// Adds to that, once.
    pub(super) fn note(&mut self, note: String) {
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    fn setup(&self, variant: Variant, agents: usize, cores: &[usize]) -> Setup {
        self.setup_with(variant, agents, cores, self.origin.addresses().to_vec())
    }

    /// What a peer is started with.
    pub(super) fn setup_with(
        &self,
        variant: Variant,
        agents: usize,
        cores: &[usize],
        origins: Vec<SocketAddr>,
    ) -> Setup {
        Setup {
            agents,
            origins,
            access_log: variant.log,
            buffering: variant.buffered,
            cores: cores.to_vec(),
            hops: 2,
            h2c: variant.h2c,
            programs: self.plan.programs_of(variant.build).clone(),
            threads: cores.len(),
            go_pool: None,
        }
    }

    /// Ends all peers but those in one of these configurations: what runs idle takes memory, and wakes now and then. One
    /// that has ended by itself is started anew when it is needed.
    pub(super) async fn keep_only(&mut self, variants: &[Variant]) {
        let (agents, cores) = (self.plan.agents, &self.plan.proxy_cores);
        let kept = |key: &Key| variants.contains(&key.variant) && key.agents == agents && key.cores == *cores;
        let is_over = |(key, peer): &mut (Key, Peer)| !kept(key) || peer.has_ended().is_some();
        let ended: Vec<_> = self.fleet.extract_if(.., is_over).collect();
        for (_, peer) in ended {
            peer.stop().await.ok();
        }
    }

    /// Puts the load on other cores: the generators from now on, and an origin of their own.
    ///
    /// # Errors
    /// When the origin does not start.
    pub(super) async fn move_load(&mut self, cores: &[usize]) -> anyhow::Result<()> {
        if self.plan.load_cores != cores {
            self.renew_origin(cores, self.busy_poll).await?;
        }
        Ok(())
    }

    /// Lets generators and the origin sleep where there is nothing to do, or not. Where they have no core without a
    /// proxy, they have to.
    ///
    /// # Errors
    /// When the origin does not start.
    pub(super) async fn set_busy_poll(&mut self, is_wanted: bool) -> anyhow::Result<()> {
        let busy_poll = is_wanted && !share_a_core(&self.plan.proxy_cores, &self.plan.load_cores);
        if self.busy_poll != busy_poll {
            self.renew_origin(&self.plan.load_cores.clone(), busy_poll).await?;
        }
        Ok(())
    }

    /// Peers are ended, since they know the old one.
    async fn renew_origin(&mut self, load_cores: &[usize], busy_poll: bool) -> anyhow::Result<()> {
        self.keep_only(&[]).await;
        let (_, cores) = split(load_cores, busy_poll);
        self.origin = start_origin(&ADDRESSES, cores, busy_poll).await?;
        self.plan.load_cores = load_cores.to_vec();
        self.busy_poll = busy_poll;
        Ok(())
    }

    /// The generator's cores.
    pub(super) fn generator_cores(&self) -> &[usize] {
        split(&self.plan.load_cores, self.busy_poll).0
    }

    /// Empties access logs that have become long.
    pub(super) fn trim_logs(&self) -> anyhow::Result<()> {
        self.fleet.iter().try_for_each(|(_, peer)| peer.trim_logs())
    }

    /// Why a peer in that configuration does not run any more, where it was started.
    pub(super) fn death(&mut self, variant: Variant) -> Option<String> {
        let mut started = self.fleet.iter_mut().filter(|(key, _)| key.variant == variant);
        started.find_map(|(_, peer)| peer.has_ended())
    }

    /// Remembers what a peer can do with such calls.
    pub(super) fn learn_capacity(&mut self, variant: Variant, call: Call, calls_per_second: f64) {
        self.capacity.entry(self.capacity_key(variant, call)).or_default().push(calls_per_second);
    }

    /// What it was seen to do, in the middle.
    pub(super) fn capacity(&self, variant: Variant, call: Call) -> Option<f64> {
        self.capacity.get(&self.capacity_key(variant, call)).map(|found| median(found))
    }

    fn capacity_key(&self, variant: Variant, call: Call) -> (String, bool) {
        (format!("{}: {call}", variant.named()), self.busy_poll)
    }

    /// Ends everything.
    pub(super) async fn clear(mut self) {
        self.keep_only(&[]).await;
    }
}

async fn checked(variant: Variant, setup: &Setup) -> Result<Peer, StartError> {
    let peer = start(variant.peer, setup).await?;
    peer.check().await?;
    Ok(peer)
}

/// Whether the load is on a core of the proxy's.
pub(super) fn share_a_core(proxy: &[usize], load: &[usize]) -> bool {
    proxy.iter().any(|core| load.contains(core))
}

/// The cores of the load, for the generator and for the origin. Of two that do not sleep each has its own where it can.
fn split(cores: &[usize], busy_poll: bool) -> (&[usize], &[usize]) {
    match cores.split_last() {
        Some((last, others)) if busy_poll && !others.is_empty() => (others, std::slice::from_ref(last)),
        _ => (cores, cores),
    }
}

/// An origin that listens at these addresses, all at one port.
pub(super) async fn start_origin(
    addresses: &[Ipv4Addr],
    cores: &[usize],
    busy_poll: bool,
) -> anyhow::Result<Origin> {
    let listen: Vec<_> = addresses.iter().map(|address| format!("{address}:0")).collect();
    let cores: Vec<_> = cores.iter().map(ToString::to_string).collect();
    let cores = cores.join(",");
    let mut args = vec!["--cores", &cores];
    if busy_poll {
        args.push("--busy-poll");
    }
    for address in &listen {
        args.extend(["--listen", address]);
    }
    Origin::start(&std::env::current_exe()?, &args).await
}

/// The first core for the proxy, the others for the load. With one core there is only that.
///
/// # Errors
/// A core that this process may not use.
pub(super) fn share_cores(
    usable: &[usize],
    proxy: &[usize],
    load: &[usize],
) -> anyhow::Result<(Vec<usize>, Vec<usize>)> {
    for core in proxy.iter().chain(load) {
        if !usable.contains(core) {
            bail!("core {core} cannot be used by this process; it may use {usable:?}");
        }
    }
    let first = usable.first().context("this process may use no core")?;
    let proxy = if proxy.is_empty() { vec![*first] } else { proxy.to_vec() };
    let others: Vec<_> = usable.iter().copied().filter(|core| !proxy.contains(core)).collect();
    let load = match (load.is_empty(), others.is_empty()) {
        (false, _) => load.to_vec(),
        (true, false) => others,
        (true, true) => proxy.clone(),
    };
    Ok((proxy, load))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_does_not_sleep_has_a_core_of_its_own_where_there_are_two() {
        assert_eq!(split(&[1, 2, 3], true), (&[1, 2][..], &[3][..]));
        assert_eq!(split(&[1, 2, 3], false), (&[1, 2, 3][..], &[1, 2, 3][..]));
        assert_eq!(split(&[1], true), (&[1][..], &[1][..]));
    }

    #[test]
    fn the_proxy_has_a_core_of_its_own_where_there_are_two() {
        assert_eq!(share_cores(&[0, 1, 2], &[], &[]).unwrap(), (vec![0], vec![1, 2]));
        assert_eq!(share_cores(&[3], &[], &[]).unwrap(), (vec![3], vec![3]));
        assert_eq!(share_cores(&[0, 1], &[1], &[]).unwrap(), (vec![1], vec![0]));
        assert_eq!(share_cores(&[0, 1], &[0], &[0]).unwrap(), (vec![0], vec![0]));
        let error = share_cores(&[0, 1], &[7], &[]).unwrap_err().to_string();
        assert!(error.contains("core 7") && error.contains("[0, 1]"), "{error}");
    }
}
