//! Years of rotation on a simulated clock, undisturbed and disturbed.
//!
//! The world keeps what was published and shown, and checks after every write what a gateway would meet whose bundle is
//! up to ten minutes old; up to three, after the Secret was lost.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use proptest::prelude::*;

use super::super::material::{AUTHORITY_LIFE, BACKDATE, CA, LEAF_LIFE};
use super::*;
use crate::certificate::tests::assert_holds_no_key;
use crate::certificate::{CERTIFICATE, KEY};

/// 2026-11-25.
const START: UnixSeconds = UnixSeconds(1_795_564_800);

const DAY: Duration = Duration::from_hours(24);

const ALL: Writable = Writable { secret: true, config_map: true };

/// Both objects as they are in the cluster, and what they were.
struct World {
    secret: BTreeMap<String, ByteString>,
    config_map: BTreeMap<String, String>,
    since: Option<String>,
    names: BTreeSet<String>,
    now: UnixSeconds,
    /// Since when each bundle was published, and each leaf shown.
    bundles: Vec<(UnixSeconds, Vec<Cert>)>,
    leaves: Vec<(UnixSeconds, Leaf)>,
    deeds: Vec<Deed>,
    publications: usize,
    /// Until then a gateway may have trouble: the first start, or somebody took trust away.
    excused: UnixSeconds,
    /// Nobody looked since somebody took trust away.
    spoilt: bool,
    /// Until then a gateway with a bundle that is older than three minutes may have trouble: the Secret was lost.
    hurried: UnixSeconds,
}

impl World {
    fn new() -> Self {
        Self {
            secret: BTreeMap::new(),
            config_map: BTreeMap::new(),
            since: None,
            names: names(&["krypton.svc", "127.0.0.1"]),
            now: START,
            bundles: vec![(UnixSeconds(0), Vec::new())],
            leaves: Vec::new(),
            deeds: Vec::new(),
            publications: 0,
            excused: START.after(OVERLAP),
            spoilt: false,
            hurried: UnixSeconds(0),
        }
    }

    fn stored(&self) -> Stored {
        Stored::read(&self.secret)
    }

    fn published(&self) -> Published {
        Published::read(&self.config_map, self.since.as_deref())
    }

    /// Somebody took away what gateways would trust.
    fn take_trust(&mut self) {
        self.spoilt = true;
        self.bundles.push((self.now, self.published().certs));
    }

    /// A leader looks and makes the first `writes` of its writes; when it would look again, if it came to rest.
    fn look(&mut self, writes: usize) -> Option<UnixSeconds> {
        let stored = self.stored();
        let is_lost = stored.leaf.as_ref().is_none_or(|leaf| !is_shown(&stored, leaf, self.now));
        if is_lost {
            self.hurried = self.now.after(OVERLAP);
        }
        // What replicas hold, and what gateways trust, may have expired; or there was never anything.
        let holds = self.leaves.last().is_some_and(|(_, leaf)| leaf.cert.is_valid(self.now));
        if self.spoilt || (is_lost && !holds) {
            self.excused = self.excused.max(self.now.after(OVERLAP));
        }
        self.spoilt &= writes == 0;
        for _ in 0..writes {
            let plan = plan(&self.stored(), &self.published(), &self.names, self.now, ALL).unwrap();
            assert!(plan.again > self.now);
            match plan.step {
                Step::Rest => {
                    assert_eq!(plan.bundle, self.config_map[CA]);
                    assert!(self.published().certs.len() <= 2 + MAX_PREVIOUS);
                    return Some(plan.again);
                }
                Step::Publish { since } => {
                    self.config_map.insert(CA.into(), plan.bundle);
                    self.since = Some(since.to_string());
                    self.bundles.push((self.now, self.published().certs));
                    self.publications += 1;
                }
                Step::Store(stored, deed) => {
                    self.write(&stored);
                    self.deeds.push(deed);
                }
            }
            self.check_overlap();
        }
        None
    }

    fn write(&mut self, stored: &Stored) {
        for (key, value) in stored.data() {
            match value {
                Some(value) => self.secret.insert(key.into(), value),
                None => self.secret.remove(key),
            };
        }
        let leaf = self.stored().leaf;
        if let Some(leaf) =
            leaf.filter(|leaf| self.leaves.last().is_none_or(|(_, last)| last.cert != leaf.cert))
        {
            self.leaves.push((self.now, leaf));
        }
    }

    fn settle(&mut self) -> UnixSeconds {
        let again = self.wait();
        self.check_rest();
        again
    }

    /// As [`settle`](Self::settle), where there may be nothing to show yet.
    fn wait(&mut self) -> UnixSeconds {
        self.look(8).expect("it comes to rest")
    }

    /// Time passes, with a leader that looks whenever it has to.
    fn live(&mut self, span: Duration) {
        let end = self.now.after(span);
        let mut again = self.wait();
        while again <= end {
            self.now = again;
            again = self.wait();
        }
        self.now = end;
        self.wait();
    }

    fn check_rest(&self) {
        let (stored, published) = (self.stored(), self.published());
        let leaf = stored.leaf.as_ref().expect("a leaf");
        let active = stored.active.as_ref().expect("an authority");
        assert!(is_shown(&stored, leaf, self.now) && published.has(&active.cert));
        assert!(leaf.cert.names() == &self.names || !is_signer(active, self.now));
        assert!(leaf.cert.not_after() <= active.cert.not_after());
    }

    /// Whatever a gateway has read in the last ten minutes, it accepts what is shown now; and what it reads now, it
    /// accepts from a replica that is ten minutes behind.
    fn check_overlap(&self) {
        if self.now <= self.excused {
            return;
        }
        let accepts =
            |certs: &[Cert], leaf: &Leaf| certs.iter().any(|cert| leaf.is_accepted_by(cert, self.now));
        let (_, shown) = self.leaves.last().expect("a leaf");
        let reach = if self.now <= self.hurried { HURRY } else { OVERLAP };
        for (place, (_, certs)) in self.bundles.iter().enumerate() {
            if self.is_recent(self.bundles.get(place + 1).map(|(until, _)| *until), reach) {
                assert!(accepts(certs, shown), "a bundle that was read before does not do at {}", self.now);
            }
        }
        let bundle = self.published().certs;
        for (place, (_, leaf)) in self.leaves.iter().enumerate() {
            let until = self.leaves.get(place + 1).map(|(until, _)| *until);
            if self.is_recent(until, OVERLAP) && leaf.cert.is_valid(self.now) {
                assert!(accepts(&bundle, leaf), "a leaf that is still shown is not accepted at {}", self.now);
            }
        }
    }

    /// Whether what was so until `until` was so within the last `reach`.
    fn is_recent(&self, until: Option<UnixSeconds>, reach: Duration) -> bool {
        until.is_none_or(|until| until.after(reach) > self.now)
    }

    fn count(&self, deed: Deed) -> usize {
        self.deeds.iter().filter(|done| **done == deed).count()
    }
}

fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn bytes(text: &str) -> ByteString {
    ByteString(text.as_bytes().to_vec())
}

#[test]
fn the_first_start_takes_three_writes_and_the_authority_is_published_before_it_signs() {
    let mut world = World::new();
    let first = plan(&world.stored(), &world.published(), &world.names, START, ALL).unwrap();
    assert!(matches!(first.step, Step::Store(_, Deed::MadeAuthority)) && first.bundle.is_empty());
    world.look(1);
    let second = plan(&world.stored(), &world.published(), &world.names, START, ALL).unwrap();
    assert!(matches!(second.step, Step::Publish { since: START }) && !second.bundle.is_empty());
    let again = world.settle();
    assert_eq!(world.deeds, [Deed::MadeAuthority, Deed::ChangedAuthority]);
    assert_eq!(world.publications, 1);
    assert_eq!(again, renewal(&world.leaves[0].1.cert));
    let leaf = &world.leaves[0].1.cert;
    assert_eq!((leaf.not_before(), leaf.not_after()), (START.before(BACKDATE), START.after(LEAF_LIFE)));
    assert_eq!(world.stored().active.unwrap().cert.not_after(), START.after(AUTHORITY_LIFE));
}

#[test]
fn years_pass_and_every_gateway_accepts_every_replica() {
    let mut world = World::new();
    world.live(DAY * 365 * 5);
    let (authorities, leaves) = (world.count(Deed::MadeAuthority), world.leaves.len());
    assert_eq!((authorities, world.count(Deed::ChangedAuthority)), (8, 8));
    // Every 60 days, and with every change of authority.
    assert!((30..=38).contains(&leaves), "{leaves}");
    // A new one comes and an old one goes, each once.
    assert_eq!(world.publications, 1 + 7 * 2);
}

#[test]
fn a_name_that_is_added_is_signed_for_at_once_by_the_same_authority() {
    let mut world = World::new();
    world.settle();
    world.now = world.now.after(DAY);
    world.names = names(&["krypton.svc", "other.svc"]);
    world.settle();
    assert_eq!(world.deeds.last(), Some(&Deed::RenewedLeaf));
    assert_eq!(world.leaves.last().unwrap().1.cert.names(), &world.names);
    assert_eq!(world.publications, 1);
}

#[test]
fn a_bundle_that_was_emptied_is_filled_again_and_a_pending_authority_waits_anew() {
    let mut world = World::new();
    world.settle();
    world.now = renewal(&world.stored().active.unwrap().cert);
    world.settle();
    let next = world.stored().next.unwrap().cert;
    world.now = world.now.after(OVERLAP / 2);
    world.config_map.clear();
    world.take_trust();
    let again = world.settle();
    assert!(world.published().has(&next));
    assert_eq!(again, world.now.after(OVERLAP));
    world.now = again;
    world.settle();
    assert_eq!(world.stored().active.unwrap().cert, next);
}

#[test]
fn what_replicas_hold_stays_trusted_and_a_lost_authority_is_replaced_once_gateways_know_the_next() {
    let spoils: [fn(&mut World); 4] = [
        |world| world.secret.clear(),
        |world| world.secret.values_mut().for_each(|value| *value = bytes("garbage")),
        |world| world.secret.remove("ca.crt").map(|_| ()).expect("it was there"),
        |world| {
            // The authority of another and a leaf that it never signed.
            let other = Issuer::make(world.now).unwrap();
            let stored = Stored { active: Some(other.without_key()), ..world.stored() };
            world.write(&stored);
        },
    ];
    for spoil in spoils {
        let mut world = World::new();
        world.settle();
        let before = world.leaves.last().unwrap().1.clone();
        world.now = world.now.after(DAY);
        spoil(&mut world);
        let again = world.wait();
        assert_eq!(again, world.now.after(HURRY));
        assert_eq!(world.count(Deed::ChangedAuthority), 1);
        let holds =
            |world: &World| world.published().certs.iter().any(|cert| before.is_accepted_by(cert, world.now));
        assert!(holds(&world));
        world.now = again;
        world.settle();
        assert_eq!(world.count(Deed::ChangedAuthority), 2);
        assert!(holds(&world));
        world.live(OVERLAP);
        assert_eq!(world.published().certs.len(), 1);
    }
}

#[test]
fn a_pending_authority_is_no_reason_to_trust_the_lost_one_no_more() {
    let mut world = World::new();
    world.settle();
    let before = world.stored().active.unwrap().cert;
    world.now = renewal(&before);
    world.settle();
    world.secret.remove("ca.crt");
    world.wait();
    assert!(world.published().has(&before));
}

#[test]
fn whoever_empties_the_secret_again_and_again_does_not_crowd_out_what_replicas_hold() {
    let mut world = World::new();
    world.settle();
    let before = world.stored().active.unwrap().cert;
    world.now = world.now.after(DAY);
    for _ in 0..3 * MAX_PREVIOUS {
        world.secret.clear();
        world.wait();
        world.now = world.now.after(Duration::from_secs(30));
        let published = world.published();
        assert!(published.has(&before) && published.certs.len() <= MAX_PREVIOUS + 1);
    }
}

#[test]
fn what_cannot_be_written_keeps_nothing_else_from_being_written() {
    let mut world = World::new();
    world.settle();
    world.take_trust();
    world.config_map.clear();
    world.names = names(&["other"]);
    let step = |world: &World, secret, config_map| {
        let writable = Writable { secret, config_map };
        plan(&world.stored(), &world.published(), &world.names, world.now, writable).unwrap().step
    };
    assert!(matches!(step(&world, true, true), Step::Publish { .. }));
    assert!(matches!(step(&world, true, false), Step::Store(_, Deed::RenewedLeaf)));
    assert!(matches!(step(&world, false, false), Step::Rest));
    // An authority that lost its key is to be followed by another.
    world.secret.remove("ca.key");
    assert!(matches!(step(&world, true, true), Step::Store(_, Deed::MadeAuthority)));
    assert!(matches!(step(&world, false, true), Step::Publish { .. }));
    // There is nothing to publish before there is an authority.
    assert!(matches!(step(&World::new(), false, true), Step::Rest));
}

#[test]
fn where_everything_has_expired_nobody_waits() {
    let mut world = World::new();
    world.settle();
    world.now = world.now.after(LEAF_LIFE + AUTHORITY_LIFE);
    world.settle();
    assert_eq!(world.count(Deed::ChangedAuthority), 2);
    assert_eq!(world.published().certs.len(), 1);
}

#[test]
fn a_broken_leaf_costs_no_authority() {
    let mut world = World::new();
    world.settle();
    world.secret.insert(KEY.into(), bytes("garbage"));
    world.settle();
    assert_eq!(world.deeds.last(), Some(&Deed::RenewedLeaf));
    assert_eq!(world.publications, 1);
}

#[test]
fn an_authority_that_lost_its_key_is_followed_by_another_in_order() {
    let mut world = World::new();
    world.settle();
    world.now = world.now.after(DAY);
    world.secret.remove("ca.key");
    let again = world.settle();
    assert_eq!(again, world.now.after(OVERLAP));
    assert_eq!(world.count(Deed::ChangedAuthority), 1);
    world.live(OVERLAP);
    assert_eq!(world.count(Deed::ChangedAuthority), 2);
}

#[test]
fn an_authority_in_its_last_second_signs_nothing() {
    let mut world = World::new();
    world.settle();
    world.now = world.stored().active.unwrap().cert.not_after();
    world.settle();
    assert_eq!(world.count(Deed::ChangedAuthority), 2);
}

#[test]
fn no_key_is_shown_to_a_reader_of_logs() {
    let mut world = World::new();
    world.settle();
    world.now = renewal(&world.stored().active.unwrap().cert);
    world.settle();
    let text = format!("{:?}", world.stored());
    assert!(text.contains("next: Some(Issuer"), "{text}");
    for key in [KEY, "ca.key", "next-ca.key"] {
        assert_holds_no_key(&text, std::str::from_utf8(&world.secret[key].0).unwrap());
    }
}

/// What happens to a cluster.
#[derive(Debug, Clone)]
enum Event {
    Minutes(u64),
    Days(u64),
    /// So many days without a leader.
    Away(u64),
    /// A leader dies after so many writes.
    Die(usize),
    Rename,
    EmptySecret,
    SpoilKey(&'static str),
    EmptyConfigMap,
    ForgetSince,
    AddStranger,
    ClockBack(u64),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let keys = ["tls.crt", "tls.key", "ca.crt", "ca.key", "next-ca.crt", "next-ca.key", "previous-ca.crt"];
    let event = prop_oneof![
        3 => (0..15_u64).prop_map(Event::Minutes),
        3 => (1..130_u64).prop_map(Event::Days),
        1 => (1..400_u64).prop_map(Event::Away),
        1 => (0..3_usize).prop_map(Event::Die),
        1 => Just(Event::Rename),
        1 => Just(Event::EmptySecret),
        1 => prop::sample::select(keys.to_vec()).prop_map(Event::SpoilKey),
        1 => Just(Event::EmptyConfigMap),
        1 => Just(Event::ForgetSince),
        1 => Just(Event::AddStranger),
        1 => (1..30_u64).prop_map(Event::ClockBack),
    ];
    prop::collection::vec(event, 1..20)
}

fn happen(world: &mut World, event: &Event) {
    match event {
        Event::Minutes(minutes) => world.live(Duration::from_mins(*minutes)),
        Event::Days(days) => world.live(DAY * u32::try_from(*days).unwrap()),
        Event::Away(days) => world.now = world.now.after(DAY * u32::try_from(*days).unwrap()),
        Event::Die(writes) => {
            world.look(*writes);
        }
        Event::Rename => {
            let name = format!("{}.svc", world.deeds.len());
            world.names = names(&[&name]);
        }
        Event::EmptySecret => world.secret.clear(),
        Event::SpoilKey(key) => {
            world.secret.insert((*key).into(), bytes("garbage"));
            if *key == "previous-ca.crt" {
                world.take_trust();
            }
        }
        Event::EmptyConfigMap => {
            world.config_map.clear();
            world.take_trust();
        }
        Event::ForgetSince => world.since = None,
        Event::AddStranger => {
            let stranger = Issuer::make(world.now).unwrap().cert.pem();
            world.config_map.entry(CA.into()).or_default().push_str(&stranger);
        }
        Event::ClockBack(minutes) => {
            // What was written lies in the future then.
            world.excused = world.excused.max(world.now.after(OVERLAP));
            world.now = world.now.before(Duration::from_mins(*minutes));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_it_comes_to_rest_and_nobody_is_locked_out_who_was_not_before(events in events()) {
        let mut world = World::new();
        for event in &events {
            happen(&mut world, event);
        }
        world.live(HURRY);
        world.settle();
        // And goes on as if nothing had been.
        world.live(DAY);
        prop_assert_eq!(world.published().certs.len(), 1 + usize::from(world.stored().next.is_some()));
        let before = world.deeds.len();
        world.live(DAY * 365);
        prop_assert!(world.deeds.len() - before <= 14, "{:?}", &world.deeds[before..]);
        prop_assert!(world.secret.contains_key(CERTIFICATE));
    }
}
