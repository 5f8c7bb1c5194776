//! Places that are few: so many in all, and so many for each address, so that one pod cannot take them from all others.

use std::collections::HashMap;
use std::net::IpAddr;

use tokio::sync::watch;

/// The places. All clones are one.
#[derive(Debug, Clone)]
pub(super) struct Places {
    taken: watch::Sender<Taken>,
    /// In all, and of one address.
    bounds: (usize, usize),
}

/// Why there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Full {
    /// All are taken.
    All,
    /// The address has as many as one may have.
    Address,
}

/// One of them; it is free again when this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Places,
    address: IpAddr,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    /// Those that have some.
    by_address: HashMap<IpAddr, usize>,
}

// === impl Places ===

impl Places {
    /// At most `all`, and `of_address` for each address.
    pub(super) fn new(all: usize, of_address: usize) -> Self {
        Self { taken: watch::Sender::default(), bounds: (all, of_address) }
    }

    /// A place for `address`.
    ///
    /// # Errors
    /// When there is none.
    pub(super) fn take(&self, address: IpAddr) -> Result<Place, Full> {
        self.take_up_to(address, self.bounds.1)
    }

    /// The same, where `address` may have so many.
    ///
    /// # Errors
    /// When there is none.
    pub(super) fn take_up_to(&self, address: IpAddr, of_address: usize) -> Result<Place, Full> {
        // The same whether the listener is for IPv4 or for both.
        let address = address.to_canonical();
        let mut full = None;
        self.taken.send_if_modified(|taken| {
            full = taken.take(address, (self.bounds.0, of_address)).err();
            full.is_none()
        });
        full.map_or_else(|| Ok(Place { places: self.clone(), address }), Err)
    }
}

// === impl Taken ===

impl Taken {
    fn take(&mut self, address: IpAddr, (all, of_address): (usize, usize)) -> Result<(), Full> {
        if self.by_address.get(&address).is_some_and(|count| *count >= of_address) {
            return Err(Full::Address);
        }
        if self.all >= all {
            return Err(Full::All);
        }
        self.all += 1;
        *self.by_address.entry(address).or_default() += 1;
        Ok(())
    }

    fn free(&mut self, address: IpAddr) {
        self.all -= 1;
        if let Some(count) = self.by_address.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                self.by_address.remove(&address);
            }
        }
    }
}

// === impl Place ===

impl Drop for Place {
    fn drop(&mut self) {
        self.places.taken.send_modify(|taken| taken.free(self.address));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_bounded_in_all_and_for_each_address() {
        let (places, [a, b, c]) = (Places::new(3, 2), [1, 2, 3].map(|last| IpAddr::from([10, 0, 0, last])));
        let first = places.take(a).unwrap();
        let _second = places.take("::ffff:10.0.0.1".parse().unwrap()).unwrap();
        assert_eq!(places.take(a).unwrap_err(), Full::Address);
        let third = places.take(b).unwrap();
        assert_eq!(places.take(c).unwrap_err(), Full::All);
        drop((first, third));
        let _more = (places.take(a).unwrap(), places.take(c).unwrap());
        assert_eq!(places.taken.borrow().by_address.len(), 2, "nothing is kept of who left");
    }
}
