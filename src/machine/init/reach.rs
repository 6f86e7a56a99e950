//! Another network for a machine whose own does not work (DESIGN §8).
//!
//! The network that the configuration wants has failed when [`Trial`] says so. Then the networks of
//! the other sources on the machine are tried in order, each as long. What works is kept until the
//! next start and nowhere else; where none does, the wanted one has its turn again, and so on with
//! growing patience. Nothing but the network is taken: no configuration, no name, no key.

use std::collections::VecDeque;

use super::Init;
use super::errand::Errand;
use crate::machine::net::trial::{Trial, Verdict};
use crate::machine::plan::Plan;
use crate::machine::source::Origin;
use crate::machine::source::found::Networks;

/// How the network is reached, and what is left to try.
#[derive(Debug)]
pub(super) struct Reach {
    wanted: Plan,
    /// Where the network that runs is from, if it is not the wanted one.
    instead: Option<Origin>,
    trial: Trial,
    /// Rounds through all of them in which none has worked.
    rounds: u32,
    looking: Option<Errand>,
    others: VecDeque<(Origin, Plan)>,
}

impl Default for Reach {
    fn default() -> Reach {
        Reach::of(Plan::default())
    }
}

impl Reach {
    /// By the network that is wanted.
    pub(super) fn of(wanted: Plan) -> Reach {
        Reach {
            wanted,
            instead: None,
            trial: Trial::new(0),
            rounds: 0,
            looking: None,
            others: VecDeque::new(),
        }
    }

    /// What the configuration says.
    pub(super) fn wanted(&self) -> &Plan {
        &self.wanted
    }

    /// Where the network that runs is from, if that is not the configuration: a sentence.
    pub(super) fn said(&self) -> String {
        let say = |origin| format!("of the {origin}: the configuration's does not work");
        self.instead.map(say).unwrap_or_default()
    }

    /// The child to wait for.
    pub(super) fn child(&self) -> Option<&Errand> {
        self.looking.as_ref()
    }

    /// Those of other sources that differ from the wanted one and from each other. The name of the
    /// machine is no part of it.
    fn differing(&self, found: Networks) -> VecDeque<(Origin, Plan)> {
        let mut others: VecDeque<(Origin, Plan)> = VecDeque::new();
        for (origin, plan) in found.0 {
            let plan = Plan {
                hostname: self.wanted.hostname.clone(),
                ..plan
            };
            if plan != self.wanted && others.iter().all(|(_, other)| *other != plan) {
                others.push_back((origin, plan));
            }
        }
        others
    }
}

impl Init {
    /// A turn of the question whether the network works.
    pub(super) fn judge_network(&mut self, now_ms: u64) {
        let Some(network) = &self.network else {
            return;
        };
        let verdict = self.reach.trial.turn(network.evidence(), now_ms);
        match verdict {
            Some(Verdict::Works) => {
                self.reach.looking = None;
                self.reach.others.clear();
                if let Some(origin) = self.reach.instead {
                    self.say(&format!(
                        "the network of the {origin} works: it is used until the next start"
                    ));
                    self.tell_status();
                }
            }
            Some(Verdict::Failed) => self.try_another_network(now_ms),
            None => {}
        }
        if let Some(child) = &mut self.reach.looking
            && let Some(found) = child.turn::<Networks>(now_ms)
        {
            self.reach.looking = None;
            self.heard_of_networks(found);
        }
    }

    /// The network that runs has failed.
    fn try_another_network(&mut self, now_ms: u64) {
        if let Some(origin) = self.reach.instead {
            self.say(&format!("the network of the {origin} does not work either"));
            return self.try_next_network();
        }
        if self.reach.rounds == 0 {
            self.say(
                "the network does not work: nobody lends an address and no gateway answers; \
                 looking for another one",
            );
        }
        match self.child_on_local_files("networks", now_ms) {
            Ok(child) => self.reach.looking = Some(child),
            Err(error) => self.heard_of_networks(Err(error.to_string())),
        }
    }

    fn heard_of_networks(&mut self, found: Result<Networks, String>) {
        let is_first = self.reach.rounds == 0;
        match found {
            Ok(found) => self.reach.others = self.reach.differing(found),
            Err(why) => self.say(&format!("cannot look for another network: {why}")),
        }
        if !self.reach.others.is_empty() {
            return self.try_next_network();
        }
        if is_first {
            self.say("no source on this machine has another network");
        }
        // It is left as it is, and somebody may bring a volume.
        self.reach.rounds += 1;
        self.reach.trial = Trial::new(self.reach.rounds);
    }

    /// The next one, or the wanted one again.
    fn try_next_network(&mut self) {
        let plan = match self.reach.others.pop_front() {
            Some((origin, plan)) => {
                self.say(&format!(
                    "trying the network of the {origin}; the configuration stays as it is"
                ));
                self.reach.instead = Some(origin);
                plan
            }
            None => {
                self.say("trying the network of the configuration again");
                self.reach.instead = None;
                self.reach.rounds += 1;
                self.reach.wanted.clone()
            }
        };
        self.reach.trial = Trial::new(self.reach.rounds);
        self.bring_up(plan);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_networks_that_differ_are_tried_and_each_once() {
        let with_resolver = |last: u8| Plan {
            resolvers: vec![[192, 0, 2, last].into()],
            ..Plan::default()
        };
        let wanted = Plan {
            hostname: Some("chat".to_owned()),
            ..with_resolver(1)
        };
        let named = Plan {
            hostname: Some("other".to_owned()),
            ..with_resolver(2)
        };
        let others = Reach::of(wanted).differing(Networks(vec![
            (Origin::NoCloud, with_resolver(1)),
            (Origin::ConfigDrive, named),
            (Origin::Esp, with_resolver(2)),
            (Origin::FwCfg, Plan::default()),
        ]));
        let origins: Vec<Origin> = others.iter().map(|(origin, _)| *origin).collect();
        assert_eq!(origins, [Origin::ConfigDrive, Origin::FwCfg]);
        assert_eq!(others[0].1.hostname.as_deref(), Some("chat"));
    }
}
