//! Of several destinations: what of their copies the truth is told, and the disaster that one of them meets with.

use std::collections::{BTreeMap, BTreeSet};

use continuum::format::name::ObjectName;

use super::State;
use crate::place::{Object, Place};
use crate::plan::Plan;

impl State {
    /// Who has an object.
    pub(super) fn holders(&self, name: &ObjectName) -> impl Iterator<Item = &Object> {
        self.places.iter().filter_map(|place| place.objects.get(name))
    }

    /// A copy has come to be. An object is there once any destination has it. An entry of a timeline begins to be one only when as many destinations have it as must have what is
    /// acknowledged: others may have another one in its place until then.
    pub(super) fn tell_created(&mut self, plan: &Plan, name: &ObjectName, object: &Object) {
        if let Some(mirror) = &plan.mirror {
            let same = self.holders(name).filter(|holder| holder.bytes == object.bytes);
            let (count, clock) = same.fold((0, 0), |(count, clock), holder| (count + 1, holder.clock.max(clock)));
            if name.timeline().is_none() {
                if count > 1 {
                    return;
                }
            } else if count < mirror.needed() {
                return;
            } else {
                let hash = blake3::hash(&object.bytes);
                if let Some(chosen) = self.chosen.insert(name.clone(), hash) {
                    let verdict = if chosen == hash { Ok(()) } else { Err(format!("two entries {name} were chosen")) };
                    return self.judge(verdict);
                }
            }
            let verdict = self.truth.created(name, &object.bytes, clock);
            return self.judge(verdict);
        }
        let verdict = self.truth.created(name, &object.bytes, object.clock);
        self.judge(verdict);
    }

    /// A copy is no longer there.
    pub(super) fn tell_deleted(&mut self, plan: &Plan, name: &ObjectName) {
        let is_entry = plan.mirror.is_some() && name.timeline().is_some();
        if self.holders(name).next().is_none() && (!is_entry || self.chosen.contains_key(name)) {
            let verdict = self.truth.deleted(name);
            self.judge(verdict);
        }
    }

    /// One destination loses everything, or what is newer than some moment. As no more than that one may fail, the others are to have all by then that was acknowledged, and nobody is
    /// writing an entry to it, who would count a copy that is gone.
    pub(super) fn meet_disaster(&mut self, plan: &Plan) {
        let Some(mirror) = &plan.mirror else { return };
        let Some(disaster) = mirror.disaster.filter(|_| !self.is_disaster_over && !self.is_calm) else { return };
        let me = disaster.destination;
        if disaster.back_to == Some(self.step) {
            self.earlier = Some(self.places[me].objects.clone());
        }
        let is_undecided = |name: &ObjectName| name.timeline().is_some() && !self.chosen.contains_key(name);
        if self.step < disaster.at
            || self.places[me].objects.keys().any(is_undecided)
            || !self.others_are_whole(me, mirror.needed())
        {
            return;
        }
        self.is_disaster_over = true;
        let earlier = self.earlier.take().unwrap_or_default();
        let (step, count) = (self.step, earlier.len());
        self.trace.note(|| format!("{step} destination {me} is back to {count} objects"));
        let lost = std::mem::replace(&mut self.places[me], Place { objects: earlier.clone(), ghosts: BTreeMap::new() });
        // What came back does so before the rest is missed.
        for (name, object) in earlier.iter().filter(|(name, _)| !lost.objects.contains_key(*name)) {
            self.tell_created(plan, name, object);
        }
        for name in lost.objects.keys().filter(|name| !earlier.contains_key(*name)) {
            self.tell_deleted(plan, name);
        }
    }

    /// Whether all destinations but one have what so many have, and nothing else in its place.
    fn others_are_whole(&self, but: usize, needed: usize) -> bool {
        let names: BTreeSet<&ObjectName> = self.places.iter().flat_map(|place| place.objects.keys()).collect();
        names.into_iter().filter(|name| self.holders(name).count() >= needed).all(|name| {
            let others = self.places.iter().enumerate().filter(|(at, _)| *at != but);
            let mut forms: Vec<_> =
                others.map(|(_, place)| place.objects.get(name).map(|found| &found.bytes)).collect();
            forms.dedup();
            forms.len() == 1 && forms[0].is_some()
        })
    }
}
