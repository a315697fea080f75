//! The kernel's map kept equal to what the machine says: what it does not take is tried again until it does.
//!
//! An entry that should be gone or is wrong answers for an address that somebody else may get, so a write
//! that fails leaves no older entry behind. What is missing in the map is served by the slow path.

use std::collections::BTreeMap;

use nexus_abi::{Binding, BindingKey};
use nexus_core::edge::{Effects, MapEntry, Place};
use nexus_core::time::BootTime;

use super::EdgeTask;
use super::answer::Answer;
use crate::binding_map::{BindingMap, Repairs, reconcile, to_binding};
use crate::edge_handle::EdgeError;
use crate::fastpath::FastPathError;
use crate::packet_events::Switches;

impl<M: BindingMap> EdgeTask<M> {
    /// Switches what the kernel tells of single packets.
    pub(super) fn switch_packet_events(&mut self, switches: &[Switches]) -> Result<(), EdgeError> {
        for one in switches {
            self.map
                .switch(one.interface, one.events, &one.trace)
                .map_err(|error| EdgeError::Map(error.to_string()))?;
        }
        Ok(())
    }

    pub(super) fn put(&mut self, entry: &MapEntry) {
        let wanted = self.kernel_entry(entry);
        let written = match &wanted {
            Ok((key, binding)) => self
                .map
                .put(key, binding)
                .map_err(|error| error.to_string()),
            Err(why) => Err(why.clone()),
        };
        match written {
            Ok(()) => self.written_now(&entry.key.place()),
            Err(error) => {
                let place = entry.key.place();
                tracing::error!(line = %entry.key, address = %entry.address, %error, "a binding could not be written");
                self.remove(&place);
                self.unwritten.insert(place.clone());
                self.map_errors.insert(place, error);
            }
        }
        // What the kernel does not take, the slow path serves.
        if let Ok((key, binding)) = wanted {
            self.served.put(key, binding);
        }
    }

    pub(super) fn remove(&mut self, place: &Place) {
        let kernel = self.access.to_kernel(place);
        if let Some(kernel) = &kernel {
            self.served.remove(kernel);
        }
        let removed = kernel.map_or(Ok(()), |kernel| self.map.remove(&kernel));
        match removed {
            Ok(()) => self.written_now(place),
            Err(error) => {
                tracing::error!(line = %place, %error, "a binding could not be removed");
                self.unwritten.insert(place.clone());
                self.map_errors.insert(place.clone(), error.to_string());
            }
        }
    }

    fn written_now(&mut self, place: &Place) {
        self.map_errors.remove(place);
        self.unwritten.remove(place);
    }

    /// Tries again what the map did not take, up to the first that it still does not. What is written there
    /// anyway once it is durable is not written before.
    pub(super) fn mend(&mut self) {
        let next = |task: &Self| task.unwritten.iter().find(|at| !task.is_due(at)).cloned();
        while let Some(place) = next(self) {
            match self.edge.map_entry(&place) {
                // Of an interface that is not configured any more; the kernel has nothing of it.
                Some(_) if self.access.to_kernel(&place).is_none() => self.written_now(&place),
                Some(entry) => self.put(&entry),
                None => self.remove(&place),
            }
            self.map_errors.clear();
            if self.unwritten.contains(&place) {
                return;
            }
            tracing::info!(line = %place, "the map is right again");
        }
    }

    /// Takes back what an answer gives and the map did not take; nothing to do if it did. The answer is to be
    /// given once what is to be done is durable.
    pub(super) fn withdraw_unserved(&mut self, now: BootTime, answer: &mut Answer) -> Effects {
        let mut fx = Effects::new();
        if let Answer::Authorize(_, Some((key, subscriber)), result) = answer
            && let Ok(grants) = result
            && !grants.ipv4.known
            && let Some(error) = self.map_errors.get(&key.place())
        {
            self.edge.withdraw(now, grants, subscriber, key, &mut fx);
            *result = Err(EdgeError::Map(error.clone()));
        }
        fx
    }

    fn kernel_entry(&self, entry: &MapEntry) -> Result<(BindingKey, Binding), String> {
        let key = self
            .access
            .to_kernel(&entry.key.place())
            .ok_or_else(|| format!("the kernel program does not serve {}: its interface is not configured any more, or it has no keys of this kind", entry.key))?;
        let profile = self
            .profiles
            .id(&entry.pool, &entry.key.interface)
            .ok_or_else(|| format!("pool {} has no DHCP profile", entry.pool))?;
        Ok((key, to_binding(entry, profile)))
    }

    pub(super) fn reconcile(&mut self) -> Result<Repairs, FastPathError> {
        let mut wanted = BTreeMap::new();
        for entry in self.edge.map_entries() {
            match self.kernel_entry(&entry) {
                Ok((key, binding)) => {
                    wanted.insert(key, binding);
                }
                Err(why) => {
                    tracing::warn!(address = %entry.address, %why, "a binding is not served");
                }
            }
        }
        let repairs = reconcile(&mut self.map, &wanted)?;
        self.served.replace(wanted);
        for (key, error) in &repairs.failed {
            if let Some(line) = self.access.from_kernel(key) {
                tracing::error!(%line, %error, "a binding could not be written");
                self.unwritten.insert(line);
            }
        }
        for (kind, count) in [
            ("added", repairs.added),
            ("replaced", repairs.replaced),
            ("removed", repairs.removed),
        ] {
            self.metrics.map_repairs(kind, count);
        }
        Ok(repairs)
    }
}
