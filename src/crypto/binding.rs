//! Channel bindings of a TLS connection (RFC 5056, RFC 5929, RFC 9266).

/// A way to name a TLS connection that both ends see and nobody between them can copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BindingType {
    /// Keying material exported from the session (RFC 9266): ours by preference.
    TlsExporter,
    /// The hash of the server's certificate (RFC 5929 §4), which XEP-0440 makes
    /// mandatory for servers; it holds behind a TLS terminator, and against nobody
    /// who has the certificate's key.
    TlsServerEndPoint,
}

impl BindingType {
    /// The registered name, as in a GS2 header.
    pub const fn name(self) -> &'static str {
        match self {
            BindingType::TlsExporter => "tls-exporter",
            BindingType::TlsServerEndPoint => "tls-server-end-point",
        }
    }

    /// The type of that name.
    pub fn from_name(name: &str) -> Option<BindingType> {
        match name {
            "tls-exporter" => Some(BindingType::TlsExporter),
            "tls-server-end-point" => Some(BindingType::TlsServerEndPoint),
            _ => None,
        }
    }
}

/// The binding data of one TLS connection, as far as it has them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChannelBindings {
    /// `tls-exporter`: 32 bytes exported with the label `EXPORTER-Channel-Binding` and
    /// no context. Absent for TLS 1.2 without extended master secret.
    pub exporter: Option<[u8; 32]>,
    /// `tls-server-end-point`: the hash of the certificate that this session showed.
    /// Absent when its signature has no defined hash (RFC 5929 §4.1).
    pub server_end_point: Option<Vec<u8>>,
}

impl ChannelBindings {
    /// The data of one type.
    pub fn data(&self, binding: BindingType) -> Option<&[u8]> {
        match binding {
            BindingType::TlsExporter => self.exporter.as_ref().map(<[u8; 32]>::as_slice),
            BindingType::TlsServerEndPoint => self.server_end_point.as_deref(),
        }
    }

    /// The types that can be offered, strongest first.
    pub fn types(&self) -> impl Iterator<Item = BindingType> + '_ {
        [BindingType::TlsExporter, BindingType::TlsServerEndPoint]
            .into_iter()
            .filter(|binding| self.data(*binding).is_some())
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.types().next().is_none()
    }
}
