//! A client that is logged in: the steps that a test is not about, in one call each.

use std::collections::VecDeque;
use std::ops::{Deref, DerefMut};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::{Element, Seen, Wire, ns};

/// A stream that has authenticated.
pub struct Client {
    wire: Wire,
    /// The account's name.
    pub name: String,
    /// The full JID, once bound.
    pub jid: String,
    /// The features after authentication.
    pub features: Element,
    /// Stanzas received and not looked at yet.
    pub waiting: VecDeque<Element>,
    /// Stanzas received since stream management was enabled: our `h`.
    pub handled: u32,
    /// The last `h` the server told.
    pub acked: u32,
    /// `<r/>` received.
    pub asked: u32,
    ids: u32,
}

impl Deref for Client {
    type Target = Wire;
    fn deref(&self) -> &Wire {
        &self.wire
    }
}

impl DerefMut for Client {
    fn deref_mut(&mut self) -> &mut Wire {
        &mut self.wire
    }
}

/// The `<auth/>` of SASL PLAIN (RFC 4616).
pub fn plain(authzid: &str, name: &str, password: &str) -> String {
    let message = STANDARD.encode(format!("{authzid}\0{name}\0{password}"));
    format!(
        "<auth xmlns='{}' mechanism='PLAIN'>{message}</auth>",
        ns::SASL
    )
}

impl Client {
    /// Opens the stream of a connection under TLS and authenticates by PLAIN.
    #[track_caller]
    pub fn authenticate(mut wire: Wire, name: &str, password: &str) -> Client {
        wire.open();
        wire.send(&plain("", name, password));
        let answer = wire.element();
        assert!(answer.is("success", ns::SASL), "got {answer}");
        Client::after_success(wire, name)
    }

    /// Goes on where SASL has succeeded.
    #[track_caller]
    pub fn after_success(mut wire: Wire, name: &str) -> Client {
        let features = wire.reopen();
        Client {
            wire,
            name: name.to_owned(),
            jid: String::new(),
            features,
            waiting: VecDeque::new(),
            handled: 0,
            acked: 0,
            asked: 0,
            ids: 0,
        }
    }

    /// Binds a resource (RFC 6120 §7), the server's choice for `None`.
    #[track_caller]
    pub fn bind(&mut self, resource: Option<&str>) {
        let resource = resource.map_or(String::new(), |resource| {
            format!("<resource>{resource}</resource>")
        });
        let payload = format!("<bind xmlns='{}'>{resource}</bind>", ns::BIND);
        let result = self.iq("set", None, &payload);
        assert_eq!(result.attr("type"), Some("result"), "bound: {result}");
        self.jid = result.must("bind", ns::BIND).must("jid", ns::BIND).text();
    }

    /// The bare JID.
    pub fn bare(&self) -> String {
        format!("{}@{}", self.name, self.wire.domain)
    }

    /// A fresh stanza id.
    pub fn fresh_id(&mut self) -> String {
        self.ids += 1;
        format!("id{}", self.ids)
    }

    /// The next stanza. Requests and answers of stream management are counted and passed over.
    #[track_caller]
    pub fn stanza(&mut self) -> Element {
        if let Some(stanza) = self.waiting.pop_front() {
            return stanza;
        }
        self.receive()
    }

    /// The next stanza of this kind; it must be the next of any.
    #[track_caller]
    pub fn stanza_named(&mut self, name: &str) -> Element {
        let stanza = self.stanza();
        assert!(stanza.is(name, ns::CLIENT), "a {name}, not {stanza}");
        stanza
    }

    /// The next stanza is a message.
    #[track_caller]
    pub fn message(&mut self) -> Element {
        self.stanza_named("message")
    }

    /// The next stanza is a message with this body.
    #[track_caller]
    pub fn message_with_body(&mut self, body: &str) -> Element {
        let message = self.message();
        assert_eq!(message.body().as_deref(), Some(body), "in {message}");
        message
    }

    /// The next stanza is a presence.
    #[track_caller]
    pub fn presence(&mut self) -> Element {
        self.stanza_named("presence")
    }

    #[track_caller]
    fn receive(&mut self) -> Element {
        loop {
            if let Some(stanza) = self.receive_one() {
                return stanza;
            }
        }
    }

    /// Reads one first-level element: a stanza is returned, stream management noted.
    #[track_caller]
    fn receive_one(&mut self) -> Option<Element> {
        let seen = self.wire.next();
        let Seen::Element(element) = seen else {
            panic!("expected a stanza, got {seen:?}");
        };
        if element.is("a", ns::SM) {
            self.acked = number(&element, "h");
            return None;
        }
        if element.is("r", ns::SM) {
            self.asked += 1;
            return None;
        }
        if element.ns == ns::CLIENT {
            self.handled = self.handled.wrapping_add(1);
        }
        Some(element)
    }

    /// Sends an IQ request and returns its answer; what else comes before it waits.
    #[track_caller]
    pub fn iq(&mut self, type_: &str, to: Option<&str>, payload: &str) -> Element {
        let id = self.fresh_id();
        let to = to.map_or(String::new(), |to| format!(" to='{to}'"));
        self.wire
            .send(&format!("<iq type='{type_}' id='{id}'{to}>{payload}</iq>"));
        self.answer(&id)
    }

    /// The answer to the request with this id; what else comes before it waits.
    #[track_caller]
    pub fn answer(&mut self, id: &str) -> Element {
        loop {
            let stanza = self.receive();
            let answers = stanza.is("iq", ns::CLIENT)
                && stanza.attr("id") == Some(id)
                && matches!(stanza.attr("type"), Some("result" | "error"));
            if answers {
                return stanza;
            }
            self.waiting.push_back(stanza);
        }
    }

    /// Sends an IQ request that must succeed, and returns the answer.
    #[track_caller]
    pub fn iq_ok(&mut self, type_: &str, to: Option<&str>, payload: &str) -> Element {
        let answer = self.iq(type_, to, payload);
        assert_eq!(answer.attr("type"), Some("result"), "got {answer}");
        answer
    }

    /// Sends an IQ request that must fail, and returns the type and condition of the error.
    #[track_caller]
    pub fn iq_error(&mut self, type_: &str, to: Option<&str>, payload: &str) -> (String, String) {
        let answer = self.iq(type_, to, payload);
        assert_eq!(answer.attr("type"), Some("error"), "got {answer}");
        let (kind, condition) = answer.error().expect("an error has a condition");
        (kind.to_owned(), condition.to_owned())
    }

    /// Sends initial presence (RFC 6121 §4.2) and waits until it comes back.
    #[track_caller]
    pub fn present(&mut self, priority: i8) {
        self.wire.send(&format!(
            "<presence><priority>{priority}</priority></presence>"
        ));
        let jid = self.jid.clone();
        loop {
            let stanza = self.receive();
            let is_own = stanza.is("presence", ns::CLIENT) && stanza.attr("from") == Some(&jid);
            if is_own {
                return;
            }
            self.waiting.push_back(stanza);
        }
    }

    /// Everything that the server sends before it has answered a ping: what this client sent
    /// before has been handled then, and what was routed to it before has arrived.
    #[track_caller]
    pub fn settle(&mut self) -> Vec<Element> {
        let answer = self.iq("get", None, "<ping xmlns='urn:xmpp:ping'/>");
        assert!(answer.is("iq", ns::CLIENT));
        self.waiting.drain(..).collect()
    }

    /// Nothing more comes.
    #[track_caller]
    pub fn expect_nothing(&mut self) {
        let stanzas = self.settle();
        assert!(stanzas.is_empty(), "nothing more, but got {stanzas:?}");
    }

    /// Nothing comes of what `sender` did so far.
    #[track_caller]
    pub fn expect_nothing_from(&mut self, sender: &mut Client) {
        let at_sender = sender.settle();
        sender.waiting.extend(at_sender);
        self.expect_nothing();
    }

    /// Sends a chat message.
    #[track_caller]
    pub fn say(&mut self, to: &str, body: &str) {
        self.say_typed("chat", to, body);
    }

    /// Sends a message of this type.
    #[track_caller]
    pub fn say_typed(&mut self, type_: &str, to: &str, body: &str) {
        let id = self.fresh_id();
        self.wire.send(&format!(
            "<message type='{type_}' to='{to}' id='{id}'><body>{body}</body></message>"
        ));
    }

    /// Enables stream management (XEP-0198 §3); with resumption the id to resume by comes back.
    #[track_caller]
    pub fn enable_management(&mut self, resume: bool) -> Option<String> {
        let resume = if resume { " resume='true'" } else { "" };
        self.wire
            .send(&format!("<enable xmlns='{}'{resume}/>", ns::SM));
        loop {
            let stanza = self.receive();
            if stanza.is("enabled", ns::SM) {
                self.handled = 0;
                return stanza.attr("id").map(str::to_owned);
            }
            assert_eq!(stanza.ns, ns::CLIENT, "got {stanza}");
            self.waiting.push_back(stanza);
        }
    }

    /// Tells the server what we have received so far.
    #[track_caller]
    pub fn acknowledge(&mut self) {
        let h = self.handled;
        self.wire.send(&format!("<a xmlns='{}' h='{h}'/>", ns::SM));
    }

    /// Asks the server for its count, and waits for the answer.
    #[track_caller]
    pub fn ask_for_ack(&mut self) -> u32 {
        self.wire.send(&format!("<r xmlns='{}'/>", ns::SM));
        loop {
            let Seen::Element(element) = self.wire.next() else {
                panic!("expected an acknowledgement");
            };
            if element.is("a", ns::SM) {
                self.acked = number(&element, "h");
                return self.acked;
            }
            if element.is("r", ns::SM) {
                self.asked += 1;
                continue;
            }
            self.handled = self.handled.wrapping_add(1);
            self.waiting.push_back(element);
        }
    }

    /// Resumes a stream (XEP-0198 §5); this client must not have bound a resource. The count
    /// goes on from `h`. Returns the server's `h`.
    #[track_caller]
    pub fn resume(&mut self, previd: &str, h: u32) -> u32 {
        let resumed = self.try_resume(previd, h);
        assert!(resumed.is("resumed", ns::SM), "got {resumed}");
        self.handled = h;
        number(&resumed, "h")
    }

    /// The same, with whatever the answer is.
    #[track_caller]
    pub fn try_resume(&mut self, previd: &str, h: u32) -> Element {
        self.wire.send(&format!(
            "<resume xmlns='{}' previd='{previd}' h='{h}'/>",
            ns::SM
        ));
        self.wire.element()
    }

    /// The stream ends with this error; requests of stream management before it do not matter.
    #[track_caller]
    pub fn expect_stream_error(&mut self, condition: &str) -> Element {
        loop {
            if let Some(error) = self.receive_one() {
                assert_eq!(error.stream_error(), Some(condition), "in {error}");
                self.wire.expect_end();
                return error;
            }
        }
    }

    /// Asks for the roster, after which pushes come.
    #[track_caller]
    pub fn roster(&mut self) -> Vec<Element> {
        let payload = format!("<query xmlns='{}'/>", ns::ROSTER);
        let result = self.iq_ok("get", None, &payload);
        let query = result.must("query", ns::ROSTER);
        query.children().cloned().collect()
    }

    /// The next stanza is a roster push: it is answered, and its item comes back.
    #[track_caller]
    pub fn roster_push(&mut self) -> Element {
        let push = self.stanza_named("iq");
        assert_eq!(push.attr("type"), Some("set"), "a roster push: {push}");
        let item = push
            .must("query", ns::ROSTER)
            .must("item", ns::ROSTER)
            .clone();
        let id = push.attr("id").expect("an IQ has an id").to_owned();
        self.wire.send(&format!("<iq type='result' id='{id}'/>"));
        item
    }

    /// Sends a presence of this type to somebody.
    #[track_caller]
    pub fn presence_to(&mut self, type_: &str, to: &str) {
        self.wire
            .send(&format!("<presence type='{type_}' to='{to}'/>"));
    }

    /// What its roster says of a contact, as `subscription`, `+ask` and `+approved`.
    #[track_caller]
    pub fn subscription_to(&mut self, contact: &str) -> String {
        let items = self.roster();
        let item = items.iter().find(|item| item.attr("jid") == Some(contact));
        item.map_or("absent".to_owned(), subscription_of)
    }

    /// Both subscribe to each other; both must have sent their presence.
    #[track_caller]
    pub fn befriend(&mut self, other: &mut Client) {
        let (one, two) = (self.bare(), other.bare());
        self.presence_to("subscribe", &two);
        self.settle();
        other.presence_to("subscribed", &one);
        other.presence_to("subscribe", &one);
        other.settle();
        self.presence_to("subscribed", &two);
        self.settle();
        other.settle();
        self.settle();
        assert_eq!(self.subscription_to(&two), "both");
        assert_eq!(other.subscription_to(&one), "both");
        self.settle();
        other.settle();
    }

    /// Logs out in order: unavailable presence, the end of the stream, the end of the connection.
    #[track_caller]
    pub fn log_out(mut self) {
        self.wire
            .send("<presence type='unavailable'/></stream:stream>");
        self.wire.until_end();
    }

    /// Loses the connection.
    pub fn cut(self) {
        self.wire.cut();
    }
}

#[track_caller]
fn number(element: &Element, name: &str) -> u32 {
    element
        .attr(name)
        .and_then(|text| text.parse().ok())
        .unwrap_or_else(|| panic!("no number {name}= in {element}"))
}

/// A roster item's state as one word: `both`, `none+ask`, `none+approved` …
pub fn subscription_of(item: &Element) -> String {
    let mut state = item.attr("subscription").unwrap_or("none").to_owned();
    if item.attr("ask") == Some("subscribe") {
        state.push_str("+ask");
    }
    if matches!(item.attr("approved"), Some("true" | "1")) {
        state.push_str("+approved");
    }
    state
}

/// Presences among these as `(type, from)`.
pub fn presences(stanzas: &[Element]) -> Vec<(&str, &str)> {
    stanzas
        .iter()
        .filter(|stanza| stanza.is("presence", ns::CLIENT))
        .map(|presence| {
            let type_ = presence.attr("type").unwrap_or("available");
            (type_, presence.attr("from").unwrap_or_default())
        })
        .collect()
}

/// The items of the roster pushes among these as `(jid, state)`.
pub fn pushes(stanzas: &[Element]) -> Vec<(String, String)> {
    stanzas
        .iter()
        .filter(|stanza| stanza.is("iq", ns::CLIENT) && stanza.attr("type") == Some("set"))
        .filter_map(|iq| iq.child("query", ns::ROSTER)?.child("item", ns::ROSTER))
        .map(|item| {
            let jid = item.attr("jid").unwrap_or_default().to_owned();
            (jid, subscription_of(item))
        })
        .collect()
}

/// The bodies of the messages among these.
pub fn bodies(stanzas: &[Element]) -> Vec<String> {
    stanzas
        .iter()
        .filter(|stanza| stanza.is("message", ns::CLIENT))
        .filter_map(Element::body)
        .collect()
}
