//! The nine subscription states of RFC 6121 Appendix A and what a stanza makes of each.
//!
//! A state is two independent halves: what the user gets of the contact's presence (`to`) and
//! what the contact gets of the user's (`from`). Each half is refused, asked for or granted, and
//! three times three are the RFC's nine. A stanza moves one half and never looks at the other,
//! which is why eight tables of nine rows are twelve lines here; the tables are in the tests.

use crate::store::Subscription;

/// One direction of a subscription.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Half {
    /// There is none.
    #[default]
    No,
    /// It was asked for and nobody has answered: *pending*.
    Asked,
    /// It was granted.
    Yes,
}

/// A subscription state (RFC 6121 §A.1), from the view of the account that owns the roster.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct State {
    /// The user's subscription to the contact; asked for is *Pending Out*.
    pub to: Half,
    /// The contact's subscription to the user; asked for is *Pending In*.
    pub from: Half,
    /// The user has granted a subscription that nobody has asked for yet (§3.4). It is no state
    /// of its own in the RFC, but decides what a request comes to.
    pub approved: bool,
}

/// The four types of a subscription stanza (RFC 6121 §3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// The sender asks for the recipient's presence.
    Subscribe,
    /// The sender does not want it any more.
    Unsubscribe,
    /// The sender grants theirs.
    Subscribed,
    /// The sender refuses theirs, or takes it back.
    Unsubscribed,
}

/// What a stanza that the user has sent comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outbound {
    /// The state from now on.
    pub state: State,
    /// The contact's server gets the stanza.
    pub is_routed: bool,
}

/// What a stanza that the contact has sent comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inbound {
    /// The state from now on.
    pub state: State,
    /// The user gets to see the stanza.
    pub is_delivered: bool,
    /// What the server answers in the user's name.
    pub reply: Option<Action>,
}

impl Action {
    /// The action that a `type` attribute names.
    pub fn from_word(word: &str) -> Option<Action> {
        match word {
            "subscribe" => Some(Action::Subscribe),
            "unsubscribe" => Some(Action::Unsubscribe),
            "subscribed" => Some(Action::Subscribed),
            "unsubscribed" => Some(Action::Unsubscribed),
            _ => None,
        }
    }

    /// The value of the `type` attribute.
    pub fn as_str(self) -> &'static str {
        match self {
            Action::Subscribe => "subscribe",
            Action::Unsubscribe => "unsubscribe",
            Action::Subscribed => "subscribed",
            Action::Unsubscribed => "unsubscribed",
        }
    }
}

impl State {
    /// The state that a roster item (its `subscription`, `ask` and `approved`) and a request
    /// that waits for an answer make up. What contradicts itself is settled in favour of what
    /// was granted.
    pub fn of(subscription: Subscription, ask: bool, approved: bool, has_request: bool) -> State {
        let half = |granted: bool, asked: bool| match (granted, asked) {
            (true, _) => Half::Yes,
            (false, true) => Half::Asked,
            (false, false) => Half::No,
        };
        State {
            to: half(subscription.has_to(), ask),
            from: half(subscription.has_from(), has_request),
            approved,
        }
    }

    /// The `subscription` attribute of the roster item.
    pub fn subscription(self) -> Subscription {
        match (self.to == Half::Yes, self.from == Half::Yes) {
            (false, false) => Subscription::None,
            (true, false) => Subscription::To,
            (false, true) => Subscription::From,
            (true, true) => Subscription::Both,
        }
    }

    /// Whether the user's roster has to hold the contact. A request that the user has not
    /// answered is no reason (RFC 6121 §3.1.3, security warning).
    pub fn needs_item(self) -> bool {
        self.to != Half::No || self.from == Half::Yes || self.approved
    }

    /// The user sends `action` to the contact (RFC 6121 §A.2).
    pub fn outbound(mut self, action: Action) -> Outbound {
        let before = self;
        let is_routed = match action {
            Action::Subscribe => {
                if self.to == Half::No {
                    self.to = Half::Asked;
                }
                true
            }
            Action::Unsubscribe => {
                self.to = Half::No;
                true
            }
            Action::Subscribed => {
                match self.from {
                    Half::Asked => self.from = Half::Yes,
                    Half::No => self.approved = true,
                    Half::Yes => {}
                }
                before.from == Half::Asked
            }
            Action::Unsubscribed => {
                self.from = Half::No;
                self.approved = false;
                before.from != Half::No
            }
        };
        Outbound {
            state: self,
            is_routed,
        }
    }

    /// The contact has sent `action` to the user (RFC 6121 §A.3).
    pub fn inbound(mut self, action: Action) -> Inbound {
        let before = self;
        let reply = match (action, before.from) {
            (Action::Subscribe, Half::No) if self.approved => {
                // An approval in advance is used up by the request that it answers: whoever
                // unsubscribes and comes back has to ask.
                self.from = Half::Yes;
                self.approved = false;
                Some(Action::Subscribed)
            }
            (Action::Subscribe, Half::No) => {
                self.from = Half::Asked;
                None
            }
            (Action::Subscribe, Half::Yes) => Some(Action::Subscribed),
            (Action::Unsubscribe, Half::Asked | Half::Yes) => {
                self.from = Half::No;
                Some(Action::Unsubscribed)
            }
            (Action::Subscribe | Action::Unsubscribe, _) => None,
            (Action::Subscribed, _) => {
                if self.to == Half::Asked {
                    self.to = Half::Yes;
                }
                None
            }
            (Action::Unsubscribed, _) => {
                self.to = Half::No;
                None
            }
        };
        let is_answered = action == Action::Subscribe && reply.is_some();
        Inbound {
            state: self,
            is_delivered: self != before && !is_answered,
            reply,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Action::*;

    /// The RFC's names, in the order of its tables.
    const ROWS: [&str; 9] = [
        "None",
        "None + Pending Out",
        "None + Pending In",
        "None + Pending Out+In",
        "To",
        "To + Pending In",
        "From",
        "From + Pending Out",
        "Both",
    ];
    const SAME: &str = "no state change";
    const PRE_APPROVAL: &str = "pre-approval";

    fn named(name: &str) -> State {
        let (to, from) = match name {
            "None" => (Half::No, Half::No),
            "None + Pending Out" => (Half::Asked, Half::No),
            "None + Pending In" => (Half::No, Half::Asked),
            "None + Pending Out+In" => (Half::Asked, Half::Asked),
            "To" => (Half::Yes, Half::No),
            "To + Pending In" => (Half::Yes, Half::Asked),
            "From" => (Half::No, Half::Yes),
            "From + Pending Out" => (Half::Asked, Half::Yes),
            "Both" => (Half::Yes, Half::Yes),
            other => panic!("{other} is no state"),
        };
        State {
            to,
            from,
            approved: false,
        }
    }

    fn expected(before: &str, after: &str) -> State {
        match after {
            SAME => named(before),
            PRE_APPROVAL => State {
                approved: true,
                ..named(before)
            },
            name => named(name),
        }
    }

    fn outbound(action: Action, table: [(bool, &str); 9]) {
        for (row, (is_routed, after)) in ROWS.into_iter().zip(table) {
            let wanted = Outbound {
                state: expected(row, after),
                is_routed,
            };
            assert_eq!(named(row).outbound(action), wanted, "{row}, {action:?}");
        }
    }

    fn inbound(action: Action, table: [(bool, &str, Option<Action>); 9]) {
        for (row, (is_delivered, after, reply)) in ROWS.into_iter().zip(table) {
            let wanted = Inbound {
                state: expected(row, after),
                is_delivered,
                reply,
            };
            assert_eq!(named(row).inbound(action), wanted, "{row}, {action:?}");
        }
    }

    #[test]
    fn outbound_subscribe_is_rfc_6121_table_2() {
        outbound(
            Subscribe,
            [
                (true, "None + Pending Out"),
                (true, SAME),
                (true, "None + Pending Out+In"),
                (true, SAME),
                (true, SAME),
                (true, SAME),
                (true, "From + Pending Out"),
                (true, SAME),
                (true, SAME),
            ],
        );
    }

    #[test]
    fn outbound_unsubscribe_is_rfc_6121_table_3() {
        outbound(
            Unsubscribe,
            [
                (true, SAME),
                (true, "None"),
                (true, SAME),
                (true, "None + Pending In"),
                (true, "None"),
                (true, "None + Pending In"),
                (true, SAME),
                (true, "From"),
                (true, "From"),
            ],
        );
    }

    #[test]
    fn outbound_subscribed_is_rfc_6121_table_4() {
        outbound(
            Subscribed,
            [
                (false, PRE_APPROVAL),
                (false, PRE_APPROVAL),
                (true, "From"),
                (true, "From + Pending Out"),
                (false, PRE_APPROVAL),
                (true, "Both"),
                (false, SAME),
                (false, SAME),
                (false, SAME),
            ],
        );
    }

    #[test]
    fn outbound_unsubscribed_is_rfc_6121_table_5() {
        outbound(
            Unsubscribed,
            [
                (false, SAME),
                (false, SAME),
                (true, "None"),
                (true, "None + Pending Out"),
                (false, SAME),
                (true, "To"),
                (true, "None"),
                (true, "None + Pending Out"),
                (true, "To"),
            ],
        );
    }

    #[test]
    fn inbound_subscribe_is_rfc_6121_table_6() {
        inbound(
            Subscribe,
            [
                (true, "None + Pending In", None),
                (true, "None + Pending Out+In", None),
                (false, SAME, None),
                (false, SAME, None),
                (true, "To + Pending In", None),
                (false, SAME, None),
                (false, SAME, Some(Subscribed)),
                (false, SAME, Some(Subscribed)),
                (false, SAME, Some(Subscribed)),
            ],
        );
    }

    #[test]
    fn inbound_unsubscribe_is_rfc_6121_table_7() {
        inbound(
            Unsubscribe,
            [
                (false, SAME, None),
                (false, SAME, None),
                (true, "None", Some(Unsubscribed)),
                (true, "None + Pending Out", Some(Unsubscribed)),
                (false, SAME, None),
                (true, "To", Some(Unsubscribed)),
                (true, "None", Some(Unsubscribed)),
                (true, "None + Pending Out", Some(Unsubscribed)),
                (true, "To", Some(Unsubscribed)),
            ],
        );
    }

    #[test]
    fn inbound_subscribed_is_rfc_6121_table_8() {
        inbound(
            Subscribed,
            [
                (false, SAME, None),
                (true, "To", None),
                (false, SAME, None),
                (true, "To + Pending In", None),
                (false, SAME, None),
                (false, SAME, None),
                (false, SAME, None),
                (true, "Both", None),
                (false, SAME, None),
            ],
        );
    }

    #[test]
    fn inbound_unsubscribed_is_rfc_6121_table_9() {
        inbound(
            Unsubscribed,
            [
                (false, SAME, None),
                (true, "None", None),
                (false, SAME, None),
                (true, "None + Pending In", None),
                (true, "None", None),
                (true, "None + Pending In", None),
                (false, SAME, None),
                (true, "From", None),
                (true, "From", None),
            ],
        );
    }

    #[test]
    fn an_approval_in_advance_answers_the_request_without_asking_the_user() {
        for row in ["None", "None + Pending Out", "To"] {
            let approved = named(row).outbound(Subscribed).state;
            let met = approved.inbound(Subscribe);
            assert_eq!(met.state.from, Half::Yes, "{row}");
            assert_eq!(met.state.to, named(row).to, "{row}");
            assert!(!met.state.approved && !met.is_delivered, "{row}");
            assert_eq!(met.reply, Some(Subscribed), "{row}");
        }
    }

    #[test]
    fn an_approval_in_advance_is_taken_back_without_a_word_to_the_contact() {
        for row in ["None", "None + Pending Out", "To"] {
            let approved = named(row).outbound(Subscribed).state;
            let met = approved.outbound(Unsubscribed);
            assert_eq!(met.state, named(row));
            assert!(!met.is_routed, "{row}");
        }
    }

    #[test]
    fn only_a_request_or_the_user_ends_an_approval_in_advance() {
        for action in [Unsubscribe, Subscribed, Unsubscribed] {
            let approved = named("None").outbound(Subscribed).state;
            assert!(approved.inbound(action).state.approved, "{action:?}");
        }
        for action in [Subscribe, Unsubscribe, Subscribed] {
            let approved = named("None").outbound(Subscribed).state;
            assert!(approved.outbound(action).state.approved, "{action:?}");
        }
    }

    #[test]
    fn a_state_survives_its_way_through_roster_and_requests() {
        for row in ROWS {
            let state = named(row);
            let ask = state.to == Half::Asked;
            let has_request = state.from == Half::Asked;
            let back = State::of(state.subscription(), ask, false, has_request);
            assert_eq!(back, state, "{row}");
        }
    }

    /// Appendix A is written from one side; both sides of a pair have to stay in step.
    #[test]
    fn two_rosters_that_begin_in_step_stay_in_step() {
        let actions = [Subscribe, Unsubscribe, Subscribed, Unsubscribed];
        let mut seen = vec![(State::default(), State::default())];
        let mut next = 0;
        while let Some(&(ours, theirs)) = seen.get(next) {
            next += 1;
            assert_eq!((ours.to, ours.from), (theirs.from, theirs.to));
            for action in actions {
                for (mut sender, mut recipient, swapped) in
                    [(ours, theirs, false), (theirs, ours, true)]
                {
                    exchange(&mut sender, &mut recipient, action);
                    let pair = if swapped {
                        (recipient, sender)
                    } else {
                        (sender, recipient)
                    };
                    if !seen.contains(&pair) {
                        seen.push(pair);
                    }
                }
            }
        }
        assert!(seen.len() >= 9, "all states were reached");
    }

    fn exchange(sender: &mut State, recipient: &mut State, action: Action) {
        let out = sender.outbound(action);
        *sender = out.state;
        if out.is_routed {
            let met = recipient.inbound(action);
            *recipient = met.state;
            if let Some(reply) = met.reply {
                *sender = sender.inbound(reply).state;
            }
        }
    }
}
