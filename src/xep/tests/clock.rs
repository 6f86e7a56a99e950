//! Waits last as long as they should, whatever is done to the wall clock meanwhile.

use super::*;
use crate::router::ResumptionId;

const HOUR_S: i64 = 3_600;
const RESUME_S: u32 = 300;

/// A server with a session that has lost its connection and can be resumed.
fn server_with_detached() -> (Server, ResumptionId) {
    let server = Server::with(|config| config.limits.resume_s = RESUME_S);
    server.accounts(&["romeo"]);
    let session = server.connect("romeo/orchard").session;
    let granted = router::enable_management(&server.core, &session, true, None);
    let (id, _) = granted.expect("it can be resumed");
    let connection = session.link().connection;
    router::connection_lost(&server.core, &session, connection);
    (server, id)
}

fn can_be_resumed(server: &Server, id: &ResumptionId) -> bool {
    router::end_overdue(&server.core);
    server.core.table.resumable_by(id).is_some()
}

#[test]
fn a_clock_set_forward_ends_no_wait_for_a_resumption() {
    let (server, id) = server_with_detached();
    set_clock_s(HOUR_S);
    wait_s(u64::from(RESUME_S - 1));
    assert!(can_be_resumed(&server, &id));
    wait_s(1);
    assert!(!can_be_resumed(&server, &id));
}

#[test]
fn a_clock_set_back_prolongs_no_wait_for_a_resumption() {
    let (server, id) = server_with_detached();
    set_clock_s(-HOUR_S);
    wait_s(u64::from(RESUME_S));
    assert!(!can_be_resumed(&server, &id));
}

#[test]
fn a_wait_for_a_resumption_goes_on_over_a_restart() {
    let (server, id) = server_with_detached();
    wait_s(100);
    // What is left of the wait is written, whatever the wall clock says now.
    set_clock_s(-HOUR_S);
    assert_eq!(router::hibernate(&server.core, &|_| ()), 1);
    wait_s(100);
    TICKS_MS.set(0);
    let server = Server::on(server.core.store.clone(), |config| {
        config.limits.resume_s = RESUME_S;
    });
    assert_eq!(router::wake(&server.core), 1);
    wait_s(u64::from(RESUME_S - 201));
    assert!(can_be_resumed(&server, &id));
    wait_s(1);
    assert!(!can_be_resumed(&server, &id));
}

#[test]
fn the_server_has_not_run_longer_because_its_clock_was_set() {
    let server = Server::new();
    let romeo = server.accounts(&["romeo"]).connect("romeo/orchard");
    set_clock_s(HOUR_S);
    wait_s(7);
    let reply = romeo.get_of(DOMAIN, "<query xmlns='jabber:iq:last'/>");
    assert!(reply.contains("seconds='7'"), "{reply}");
}
