//! Twenty kills in a row while messages flow: nothing acknowledged is lost or reordered, and
//! nothing is delivered again whose retirement was durable.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::process::Command;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use crate::support::*;

const ROUNDS: usize = 20;
const SENDERS: usize = 3;
/// Recipients that are online in every round; the others are offline while messages come.
const ONLINE: [&str; 2] = ["on0", "on1"];
const OFFLINE: [&str; 2] = ["off0", "off1"];

/// What one recipient has seen over all rounds.
#[derive(Default)]
struct Inbox {
    /// Number of deliveries by message.
    deliveries: HashMap<String, usize>,
    /// The id that the server gave each.
    ids: HashMap<String, String>,
    /// Messages whose retirement is durable: they must never come again.
    retired: BTreeSet<String>,
}

/// What the senders know over all rounds: by sender and recipient, the numbers acknowledged.
type Acknowledged = BTreeMap<(usize, &'static str), Vec<u32>>;

#[test]
fn twenty_kills_under_load_lose_reorder_and_double_nothing() {
    let mut server = Server::prepare(&[
        ("log.level", "\"info\""),
        ("limits.offline_messages", "1000000"),
        ("limits.offline_bytes", "1000000000"),
        ("limits.accepts_per_address_per_minute", "0"),
    ]);
    for name in ONLINE.iter().chain(&OFFLINE) {
        server.add(name);
    }
    for n in 0..SENDERS {
        server.add(&format!("sender{n}"));
    }
    server.run();
    let mut inboxes: HashMap<&str, Inbox> = HashMap::new();
    let mut acknowledged = Acknowledged::new();
    let mut next = [0; SENDERS];
    for round in 0..ROUNDS {
        let (tick, ticks) = channel();
        let readers: Vec<_> = ONLINE
            .iter()
            .map(|name| read_until_killed(&server, name, inboxes.remove(name)))
            .collect();
        let writers: Vec<_> = (0..SENDERS)
            .map(|n| write_until_killed(&server, n, next[n], tick.clone()))
            .collect();
        drop(tick);
        // Every third round somebody who was offline comes and takes some of what waits.
        if round % 3 == 2 {
            for name in OFFLINE {
                let mut inbox = inboxes.remove(name).unwrap_or_default();
                drain(&server, name, &mut inbox, 40);
                inboxes.insert(name, inbox);
            }
        }
        wait_for_some(&ticks, 3 + (round * 7) % 23);
        kill_from_outside(&server);
        for (name, reader) in ONLINE.iter().zip(readers) {
            inboxes.insert(name, reader.join().expect("the reader ends well"));
        }
        for (n, writer) in writers.into_iter().enumerate() {
            let sent = writer.join().expect("the writer ends well");
            next[n] = sent.next;
            for (to, number) in sent.acknowledged {
                acknowledged.entry((n, to)).or_default().push(number);
            }
        }
        server.kill();
        server.run();
    }
    let count: usize = acknowledged.values().map(Vec::len).sum();
    assert!(count > ROUNDS * 8, "there was some load: {count} messages");
    for name in ONLINE.iter().chain(&OFFLINE) {
        let mut inbox = inboxes.remove(name).unwrap_or_default();
        drain(&server, name, &mut inbox, usize::MAX);
        for ((sender, to), numbers) in &acknowledged {
            for number in numbers.iter().filter(|_| to == name) {
                let body = format!("{sender} {number}");
                assert!(
                    inbox.deliveries.contains_key(&body),
                    "message {body} to {name} was acknowledged and lost"
                );
            }
        }
    }
    server.cli_while_stopped(&["store", "verify"]);
}

/// An outside process kills the server: it is not asked, and none of its threads is told.
fn kill_from_outside(server: &Server) {
    let killed = Command::new("kill")
        .args(["-9", &server.pid().to_string()])
        .status()
        .expect("kill runs");
    assert!(killed.success());
}

fn wait_for_some(ticks: &Receiver<()>, count: usize) {
    for _ in 0..count {
        ticks
            .recv_timeout(wire::PATIENCE)
            .expect("the senders get acknowledgements");
    }
}

/// What a sender knows when the server has gone.
struct Sent {
    next: u32,
    acknowledged: Vec<(&'static str, u32)>,
}

/// Sends numbered messages to everybody in turn, eight at a time, until the connection ends.
fn write_until_killed(server: &Server, n: usize, first: u32, tick: Sender<()>) -> JoinHandle<Sent> {
    let mut client = server.login(&format!("sender{n}"), "w");
    client.enable_management(false);
    std::thread::spawn(move || {
        let recipients: Vec<_> = ONLINE.into_iter().chain(OFFLINE).collect();
        let (mut number, mut sent, mut done) = (first, Vec::new(), 0);
        loop {
            let mut batch = String::new();
            for _ in 0..8 {
                let to = recipients[number as usize % recipients.len()];
                batch.push_str(&format!(
                    "<message type='chat' to='{to}@{DOMAIN}'><body>{n} {number}</body></message>"
                ));
                sent.push((to, number));
                number += 1;
            }
            batch.push_str("<r xmlns='urn:xmpp:sm:3'/>");
            let open = client.try_send_bytes(batch.as_bytes()).is_ok();
            if !open || !read_acknowledgement(&mut client, &mut done) {
                sent.truncate(done);
                return Sent {
                    next: number,
                    acknowledged: sent,
                };
            }
            let _ = tick.send(());
        }
    })
}

/// Reads up to the next `<a/>`; false when the connection ended.
fn read_acknowledgement(client: &mut Client, done: &mut usize) -> bool {
    loop {
        match client.next() {
            Seen::Element(element) if element.is("a", ns::SM) => {
                let h = element.attr("h").and_then(|h| h.parse().ok());
                *done = h.expect("h is a number");
                return true;
            }
            Seen::Element(element) => {
                assert_ne!(element.attr("type"), Some("error"), "got {element}");
            }
            _ => return false,
        }
    }
}

/// Reads and acknowledges what comes until the connection ends.
fn read_until_killed(server: &Server, name: &str, inbox: Option<Inbox>) -> JoinHandle<Inbox> {
    let mut inbox = inbox.unwrap_or_default();
    let mut client = server.login(name, "r");
    client.enable_management(true);
    client.present(0);
    std::thread::spawn(move || {
        let mut session = Reading::default();
        let waiting = std::mem::take(&mut client.waiting);
        for stanza in &waiting {
            session.take(stanza, &mut inbox);
        }
        session.handled = client.handled as usize;
        while let Seen::Element(element) = client.next() {
            if element.ns == ns::CLIENT {
                session.handled += 1;
                session.take(&element, &mut inbox);
            }
            let due = element.is("r", ns::SM) || session.handled % 7 == 0;
            if due && !session.acknowledge(&mut client) {
                break;
            }
        }
        inbox
    })
}

/// One session of a recipient.
#[derive(Default)]
struct Reading {
    handled: usize,
    /// Messages received, in order.
    received: Vec<String>,
    /// Of those, how many had been acknowledged when the durable request was sent.
    awaited: Option<usize>,
    /// The highest number of each sender in this session.
    highest: HashMap<String, u32>,
}

impl Reading {
    /// Looks at one stanza.
    fn take(&mut self, stanza: &Element, inbox: &mut Inbox) {
        if stanza.is("iq", ns::CLIENT) && stanza.attr("id") == Some("durable") {
            // Retirements of what was acknowledged before stand before this request in the log.
            let count = self.awaited.take().unwrap_or(0);
            inbox.retired.extend(self.received[..count].iter().cloned());
            return;
        }
        let Some(body) = stanza.body() else { return };
        let (sender, number) = body.split_once(' ').expect("a sender and a number");
        let number: u32 = number.parse().expect("a number");
        let highest = self.highest.insert(sender.to_owned(), number);
        assert!(
            highest.is_none_or(|highest| highest < number),
            "{body} came behind {highest:?}: {stanza}"
        );
        assert!(
            !inbox.retired.contains(&body),
            "{body} came again though its retirement was durable: {stanza}"
        );
        let id = stanza.must("stanza-id", ns::STANZA_ID).attr("id");
        let id = id.expect("a stanza-id has an id").to_owned();
        let before = inbox.ids.insert(body.clone(), id.clone());
        assert!(
            before.is_none_or(|before| before == id),
            "{body} came with another id: {stanza}"
        );
        *inbox.deliveries.entry(body.clone()).or_default() += 1;
        self.received.push(body);
    }

    /// Tells the server what was received, and now and then asks for something durable behind it.
    /// False when the connection has ended.
    fn acknowledge(&mut self, client: &mut Client) -> bool {
        let mut xml = format!("<a xmlns='{}' h='{}'/>", ns::SM, self.handled);
        if self.awaited.is_none() {
            self.awaited = Some(self.received.len());
            xml.push_str(
                "<iq type='set' id='durable'><query xmlns='jabber:iq:private'>\
                 <mark xmlns='urn:crash'/></query></iq>",
            );
        }
        client.try_send_bytes(xml.as_bytes()).is_ok()
    }
}

/// Logs in and takes at least `count` of what waits, or all of it, and acknowledges it for good.
fn drain(server: &Server, name: &str, inbox: &mut Inbox, count: usize) {
    let mut client = server.login(name, "d");
    client.enable_management(false);
    client.send("<presence/>");
    let mut reading = Reading::default();
    let mut quiet = 0;
    // Everything has come when nothing came between some answers to pings: what waits in the log
    // may follow the first of them.
    while quiet < 5 && reading.received.len() < count {
        let before = reading.received.len();
        for stanza in client.settle() {
            reading.take(&stanza, inbox);
        }
        client.acknowledge();
        quiet = if reading.received.len() == before {
            quiet + 1
        } else {
            0
        };
    }
    let taken = reading.received.len();
    client.iq_ok(
        "set",
        None,
        "<query xmlns='jabber:iq:private'><mark xmlns='urn:crash'/></query>",
    );
    inbox
        .retired
        .extend(reading.received[..taken].iter().cloned());
    for stanza in client.settle() {
        reading.take(&stanza, inbox);
    }
    client.acknowledge();
    client.log_out();
}
