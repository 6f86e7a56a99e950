//! The client's side of SCRAM (RFC 5802, RFC 7677) with channel binding, on its own.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::{digest, hmac, pbkdf2};

/// Which hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hash {
    Sha1,
    Sha256,
}

/// What the client says about channel binding in its GS2 header.
#[derive(Debug, Clone)]
pub enum Binding {
    /// `n`: it cannot.
    None,
    /// `y`: it could, but believes that the server cannot.
    NotOffered,
    /// `p=`: it binds to this channel.
    To { name: &'static str, data: Vec<u8> },
}

/// One exchange.
pub struct Scram {
    hash: Hash,
    password: String,
    gs2: String,
    binding_data: Vec<u8>,
    client_first_bare: String,
    nonce: String,
    server_signature: Vec<u8>,
    /// The server's first message as it came.
    pub server_first: String,
}

impl Scram {
    pub fn new(hash: Hash, user: &str, password: &str, binding: &Binding) -> Scram {
        Scram::with_authzid(hash, user, password, binding, "")
    }

    /// With an authorization identity in the GS2 header.
    pub fn with_authzid(
        hash: Hash,
        user: &str,
        password: &str,
        binding: &Binding,
        authzid: &str,
    ) -> Scram {
        let (flag, binding_data) = match binding {
            Binding::None => ("n".to_owned(), Vec::new()),
            Binding::NotOffered => ("y".to_owned(), Vec::new()),
            Binding::To { name, data } => (format!("p={name}"), data.clone()),
        };
        let authzid = match authzid {
            "" => String::new(),
            authzid => format!("a={}", escape(authzid)),
        };
        let nonce = fresh_nonce();
        Scram {
            hash,
            password: password.to_owned(),
            gs2: format!("{flag},{authzid},"),
            binding_data,
            client_first_bare: format!("n={},r={nonce}", escape(user)),
            nonce,
            server_signature: Vec::new(),
            server_first: String::new(),
        }
    }

    /// The client's first message.
    pub fn first(&self) -> String {
        format!("{}{}", self.gs2, self.client_first_bare)
    }

    /// The client's final message in answer to the server's first.
    #[track_caller]
    pub fn last(&mut self, server_first: &str) -> String {
        let attribute = |key: char| {
            server_first
                .split(',')
                .find_map(|part| part.strip_prefix(key)?.strip_prefix('='))
                .unwrap_or_else(|| panic!("no {key}= in {server_first}"))
        };
        self.server_first = server_first.to_owned();
        let nonce = attribute('r');
        assert!(
            nonce.starts_with(&self.nonce) && nonce.len() > self.nonce.len(),
            "the server adds to our nonce: {server_first}"
        );
        let salt = STANDARD.decode(attribute('s')).expect("the salt is base64");
        let iterations: u32 = attribute('i').parse().expect("a number of iterations");
        let bound = [self.gs2.as_bytes(), &self.binding_data].concat();
        let without_proof = format!("c={},r={nonce}", STANDARD.encode(bound));
        let auth_message = format!("{},{server_first},{without_proof}", self.client_first_bare);
        let salted = self.salted_password(&salt, iterations);
        let client_key = self.hmac(&salted, b"Client Key");
        let signature = self.hmac(&self.digest(&client_key), auth_message.as_bytes());
        let proof: Vec<u8> = client_key
            .iter()
            .zip(&signature)
            .map(|(a, b)| a ^ b)
            .collect();
        let server_key = self.hmac(&salted, b"Server Key");
        self.server_signature = self.hmac(&server_key, auth_message.as_bytes());
        format!("{without_proof},p={}", STANDARD.encode(proof))
    }

    /// Whether the server's final message proves that it knows the password too.
    pub fn is_servers_proof(&self, server_final: &str) -> bool {
        server_final
            .strip_prefix("v=")
            .and_then(|value| STANDARD.decode(value).ok())
            .is_some_and(|signature| signature == self.server_signature)
    }

    fn salted_password(&self, salt: &[u8], iterations: u32) -> Vec<u8> {
        let (algorithm, len) = match self.hash {
            Hash::Sha1 => (pbkdf2::PBKDF2_HMAC_SHA1, 20),
            Hash::Sha256 => (pbkdf2::PBKDF2_HMAC_SHA256, 32),
        };
        let mut out = vec![0; len];
        let iterations = iterations.try_into().expect("at least one iteration");
        pbkdf2::derive(
            algorithm,
            iterations,
            salt,
            self.password.as_bytes(),
            &mut out,
        );
        out
    }

    fn hmac(&self, key: &[u8], message: &[u8]) -> Vec<u8> {
        let algorithm = match self.hash {
            Hash::Sha1 => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
            Hash::Sha256 => hmac::HMAC_SHA256,
        };
        hmac::sign(&hmac::Key::new(algorithm, key), message)
            .as_ref()
            .to_vec()
    }

    fn digest(&self, message: &[u8]) -> Vec<u8> {
        let algorithm = match self.hash {
            Hash::Sha1 => &digest::SHA1_FOR_LEGACY_USE_ONLY,
            Hash::Sha256 => &digest::SHA256,
        };
        digest::digest(algorithm, message).as_ref().to_vec()
    }
}

fn escape(name: &str) -> String {
    name.replace('=', "=3D").replace(',', "=2C")
}

fn fresh_nonce() -> String {
    let mut bytes = [0; 18];
    ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut bytes)
        .expect("the kernel has random bytes");
    STANDARD.encode(bytes)
}
