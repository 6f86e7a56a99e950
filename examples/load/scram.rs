//! SCRAM-SHA-256 (RFC 7677) with keys that are derived once: all accounts of a run share a
//! password and a salt, so that a log-in costs the client next to nothing.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::{digest, hmac};

use super::client::{Client, Outcome};

const NS: &str = "urn:ietf:params:xml:ns:xmpp-sasl";

/// What a client makes of a password.
pub struct ClientKeys {
    client_key: Vec<u8>,
    stored_key: Vec<u8>,
}

impl ClientKeys {
    /// Derives them.
    pub fn derive(password: &str, salt: &[u8], iterations: u32) -> ClientKeys {
        let mut salted = [0; 32];
        let iterations = std::num::NonZeroU32::new(iterations).expect("not zero");
        ring::pbkdf2::derive(
            ring::pbkdf2::PBKDF2_HMAC_SHA256,
            iterations,
            salt,
            password.as_bytes(),
            &mut salted,
        );
        let client_key = sign(&salted, b"Client Key");
        let stored_key = digest::digest(&digest::SHA256, &client_key)
            .as_ref()
            .to_vec();
        ClientKeys {
            client_key,
            stored_key,
        }
    }
}

fn sign(key: &[u8], message: &[u8]) -> Vec<u8> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key);
    hmac::sign(&key, message).as_ref().to_vec()
}

/// A whole log-in up to the point where the client is available.
pub async fn log_in(client: &mut Client, user: &str, keys: &ClientKeys) -> Outcome<()> {
    let features = client.open().await?;
    // XEP-0474 is not spoken here: the server must do without the client's `d`.
    if !features.contains("SCRAM-SHA-256<") {
        return Err("the server offers no SCRAM-SHA-256".into());
    }
    let nonce = "cairnloadnonce0123456789";
    let first_bare = format!("n={user},r={nonce}");
    let first = BASE64.encode(format!("n,,{first_bare}"));
    client
        .send(&format!(
            "<auth xmlns='{NS}' mechanism='SCRAM-SHA-256'>{first}</auth>"
        ))
        .await?;
    let challenge = client.until("</challenge>").await?;
    let encoded = challenge
        .rsplit_once("</challenge>")
        .and_then(|(before, _)| before.rsplit_once('>'))
        .map_or("", |(_, text)| text);
    let server_first = String::from_utf8(BASE64.decode(encoded)?)?;
    let server_nonce = server_first
        .split(',')
        .find_map(|part| part.strip_prefix("r="))
        .ok_or("no nonce")?;
    let without_proof = format!("c=biws,r={server_nonce}");
    let auth_message = format!("{first_bare},{server_first},{without_proof}");
    let signature = sign(&keys.stored_key, auth_message.as_bytes());
    let proof: Vec<u8> = keys
        .client_key
        .iter()
        .zip(&signature)
        .map(|(a, b)| a ^ b)
        .collect();
    let last = BASE64.encode(format!("{without_proof},p={}", BASE64.encode(proof)));
    client
        .send(&format!("<response xmlns='{NS}'>{last}</response>"))
        .await?;
    client.until("</success>").await?;
    client.begin().await
}
