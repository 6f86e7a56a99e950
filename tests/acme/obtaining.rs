//! How a certificate comes, is renewed, and does not come.

use nix::sys::signal::Signal;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::pebble::{Pebble, Ways, wait_for_certificate};
use crate::support::*;

/// Who issued the certificate that clients are shown, and its serial number.
fn shown(server: &Server) -> (String, String) {
    let tls = Tls::new();
    let mut wire = server.tls_wire_with(&tls);
    wire.open();
    let der = tls.certificate().expect("one is shown");
    let (_, certificate) = X509Certificate::from_der(&der).expect("a certificate");
    let serial = certificate.raw_serial_as_string();
    (certificate.issuer().to_string(), serial)
}

#[test]
fn the_first_certificate_is_proved_by_http_and_sessions_stay() {
    let Some(mut pebble) = Pebble::prepare() else {
        return;
    };
    let mut server = pebble.server_with_http();
    server.run();
    server.wait_for_log(&["no certificate", "cannot be reached"]);
    assert!(!shown(&server).0.contains("Pebble"), "it is self-signed");
    server.add("juliet");
    let mut client = server.online("juliet", "balcony");
    pebble.run(Ways::default());
    server.signal(Signal::SIGHUP);
    wait_for_certificate(&server);
    assert!(shown(&server).0.contains("Pebble Intermediate CA"));
    client.settle();
    let told = server.cli(&["cert", "show"], "");
    assert!(told.contains("the authority that [acme] names"), "{told}");
    assert!(told.contains(DOMAIN), "{told}");
    // It is there after a restart, and nobody is asked again.
    let before = shown(&server).1;
    server.kill();
    pebble.stop();
    server.run();
    assert_eq!(shown(&server).1, before);
}
