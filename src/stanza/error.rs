//! Refusals as the specification names them: of a stanza (RFC 6120 §8.3), of a stream (§4.9), of a log-in (§6.5).

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;

use super::condition::conditions;
use crate::xml::{Element, Writer, XmlError, ns};

/// Namespace of the conditions of stanza errors (RFC 6120 §8.3.2).
pub const STANZAS: &str = "urn:ietf:params:xml:ns:xmpp-stanzas";
/// Namespace of the conditions of stream errors (RFC 6120 §4.9.2).
pub const STREAM_ERRORS: &str = "urn:ietf:params:xml:ns:xmpp-streams";
/// Namespace of SASL negotiation (RFC 6120 §6.4).
pub const SASL: &str = "urn:ietf:params:xml:ns:xmpp-sasl";

/// Why a stanza was not processed, and what its sender may do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StanzaError {
    /// What the sender may do.
    pub type_: ErrorType,
    /// The defined condition.
    pub condition: Condition,
    /// Where `<gone/>` and `<redirect/>` point to; without meaning for other conditions.
    pub address: Option<String>,
    /// Words for a person; empty for none.
    pub text: Cow<'static, str>,
    /// A condition of an extension beside the defined one (RFC 6120 §8.3.4).
    pub application: Option<Application>,
}

/// An application-specific condition: an empty element of an extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Application {
    /// Element name.
    pub name: &'static str,
    /// Its namespace.
    pub ns: &'static str,
}

conditions! {
    /// What the sender of the refused stanza may do (RFC 6120 §8.3.2).
    pub enum ErrorType {
        /// Retry after providing credentials.
        Auth = "auth",
        /// Do not retry.
        Cancel = "cancel",
        /// Proceed: this was only a warning.
        Continue = "continue",
        /// Retry after changing what was sent.
        Modify = "modify",
        /// Retry after waiting.
        Wait = "wait",
    }
}

conditions! {
    /// The defined conditions of stanza errors (RFC 6120 §8.3.3).
    pub enum Condition {
        /// §8.3.3.1: malformed or not to be processed.
        BadRequest = "bad-request",
        /// §8.3.3.2: something of that name or address exists already.
        Conflict = "conflict",
        /// §8.3.3.3: not implemented here.
        FeatureNotImplemented = "feature-not-implemented",
        /// §8.3.3.4: the sender lacks the permission.
        Forbidden = "forbidden",
        /// §8.3.3.5: no longer at this address; may name the new one.
        Gone = "gone",
        /// §8.3.3.6: our own fault.
        InternalServerError = "internal-server-error",
        /// §8.3.3.7: no such address or item.
        ItemNotFound = "item-not-found",
        /// §8.3.3.8: an address violates RFC 7622.
        JidMalformed = "jid-malformed",
        /// §8.3.3.9: does not meet the criteria of the recipient or the server.
        NotAcceptable = "not-acceptable",
        /// §8.3.3.10: nobody may do this.
        NotAllowed = "not-allowed",
        /// §8.3.3.11: credentials are needed first.
        NotAuthorized = "not-authorized",
        /// §8.3.3.12: violates a local policy.
        PolicyViolation = "policy-violation",
        /// §8.3.3.13: the recipient is unavailable for now.
        RecipientUnavailable = "recipient-unavailable",
        /// §8.3.3.14: go to another address, usually for now.
        Redirect = "redirect",
        /// §8.3.3.15: prior registration is needed.
        RegistrationRequired = "registration-required",
        /// §8.3.3.16: the other server does not exist or can't be resolved.
        RemoteServerNotFound = "remote-server-not-found",
        /// §8.3.3.17: the other server did not answer in time.
        RemoteServerTimeout = "remote-server-timeout",
        /// §8.3.3.18: no resources for this now.
        ResourceConstraint = "resource-constraint",
        /// §8.3.3.19: not offered here, or the recipient's state must not be told.
        ServiceUnavailable = "service-unavailable",
        /// §8.3.3.20: a prior subscription is needed.
        SubscriptionRequired = "subscription-required",
        /// §8.3.3.21: something else, which the application-specific condition names.
        UndefinedCondition = "undefined-condition",
        /// §8.3.3.22: understood, but out of turn.
        UnexpectedRequest = "unexpected-request",
    }
}

impl Condition {
    /// The type that the specification gives the condition, the first where it gives a choice.
    pub const fn default_type(self) -> ErrorType {
        match self {
            Self::Forbidden
            | Self::NotAuthorized
            | Self::RegistrationRequired
            | Self::SubscriptionRequired => ErrorType::Auth,
            Self::BadRequest
            | Self::JidMalformed
            | Self::NotAcceptable
            | Self::PolicyViolation
            | Self::Redirect => ErrorType::Modify,
            Self::RecipientUnavailable
            | Self::RemoteServerTimeout
            | Self::ResourceConstraint
            | Self::UnexpectedRequest => ErrorType::Wait,
            Self::Conflict
            | Self::FeatureNotImplemented
            | Self::Gone
            | Self::InternalServerError
            | Self::ItemNotFound
            | Self::NotAllowed
            | Self::RemoteServerNotFound
            | Self::ServiceUnavailable
            | Self::UndefinedCondition => ErrorType::Cancel,
        }
    }
}

/// Declares a constructor for each condition, with its default type.
macro_rules! constructors {
    ($($(#[$doc:meta])* $function:ident: $condition:ident,)+) => {
        $($(#[$doc])*
        pub fn $function(text: impl Into<Cow<'static, str>>) -> Self {
            Self::new(Condition::$condition, text)
        })+
    };
}

impl StanzaError {
    /// A condition with its default type and words for a person, which may be empty.
    pub fn new(condition: Condition, text: impl Into<Cow<'static, str>>) -> Self {
        Self {
            type_: condition.default_type(),
            condition,
            address: None,
            text: text.into(),
            application: None,
        }
    }

    constructors! {
        /// The request is malformed.
        bad_request: BadRequest,
        /// Something of that name exists already.
        conflict: Conflict,
        /// Not implemented here.
        feature_not_implemented: FeatureNotImplemented,
        /// The sender lacks the permission.
        forbidden: Forbidden,
        /// Our own fault.
        internal_server_error: InternalServerError,
        /// No such address or item.
        item_not_found: ItemNotFound,
        /// An address violates RFC 7622.
        jid_malformed: JidMalformed,
        /// Does not meet the recipient's or the server's criteria.
        not_acceptable: NotAcceptable,
        /// Nobody may do this.
        not_allowed: NotAllowed,
        /// Credentials are needed first.
        not_authorized: NotAuthorized,
        /// Violates a local policy.
        policy_violation: PolicyViolation,
        /// The recipient is unavailable for now.
        recipient_unavailable: RecipientUnavailable,
        /// Prior registration is needed.
        registration_required: RegistrationRequired,
        /// The other server does not exist.
        remote_server_not_found: RemoteServerNotFound,
        /// The other server did not answer in time.
        remote_server_timeout: RemoteServerTimeout,
        /// No resources for this now.
        resource_constraint: ResourceConstraint,
        /// Not offered here.
        service_unavailable: ServiceUnavailable,
        /// A prior subscription is needed.
        subscription_required: SubscriptionRequired,
        /// Something else.
        undefined_condition: UndefinedCondition,
        /// Out of turn.
        unexpected_request: UnexpectedRequest,
    }

    /// No longer at this address; `new_address` is a URI such as `xmpp:juliet@example.com`.
    pub fn gone(new_address: Option<String>, text: impl Into<Cow<'static, str>>) -> Self {
        Self {
            address: new_address,
            ..Self::new(Condition::Gone, text)
        }
    }

    /// Go to another address, given as a URI.
    pub fn redirect(address: String, text: impl Into<Cow<'static, str>>) -> Self {
        Self {
            address: Some(address),
            ..Self::new(Condition::Redirect, text)
        }
    }

    /// The same with another type.
    #[must_use]
    pub fn with_type(self, type_: ErrorType) -> Self {
        Self { type_, ..self }
    }

    /// The same with an application-specific condition.
    #[must_use]
    pub fn with_application(self, name: &'static str, ns: &'static str) -> Self {
        Self {
            application: Some(Application { name, ns }),
            ..self
        }
    }

    /// Writes the `<error/>` element.
    pub fn write(&self, writer: &mut Writer) {
        writer
            .open("error")
            .attr("type", self.type_.name())
            .open_ns(self.condition.name(), STANZAS);
        if let Some(address) = self
            .address
            .as_deref()
            .filter(|_| self.condition.has_address())
        {
            writer.text(address);
        }
        writer.close();
        if !self.text.is_empty() {
            writer
                .open_ns("text", STANZAS)
                .attr("xml:lang", "en")
                .text(&self.text)
                .close();
        }
        if let Some(application) = self.application {
            writer.empty(application.name, application.ns);
        }
        writer.close();
    }

    /// Reads an `<error/>` element. An unknown condition becomes `undefined-condition`, an unknown type that of the
    /// condition (RFC 6120 §8.3.2 has a receiver treat what it does not know so).
    pub fn read(error: &Element<'_>) -> Self {
        let mut condition = Condition::UndefinedCondition;
        let mut address = None;
        let mut text = Cow::Borrowed("");
        for child in error.children().filter(|child| child.ns() == STANZAS) {
            if child.name() == "text" {
                text = child.text().into_owned().into();
            } else if let Some(known) = Condition::of(child.name()) {
                condition = known;
                address = Some(child.text().into_owned())
                    .filter(|uri| known.has_address() && !uri.is_empty());
            }
        }
        let type_ = error.attr("type").and_then(|type_| ErrorType::of(&type_));
        Self {
            type_: type_.unwrap_or(condition.default_type()),
            condition,
            address,
            text,
            application: None,
        }
    }
}

impl Condition {
    const fn has_address(self) -> bool {
        matches!(self, Self::Gone | Self::Redirect)
    }
}

impl fmt::Display for StanzaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_reason(f, self.condition.name(), &self.text)
    }
}

impl std::error::Error for StanzaError {}

conditions! {
    /// The defined conditions of stream errors (RFC 6120 §4.9.3).
    pub enum StreamErrorCondition {
        /// §4.9.3.1: XML that can't be processed.
        BadFormat = "bad-format",
        /// §4.9.3.2: an unsupported prefix, or none where one is needed.
        BadNamespacePrefix = "bad-namespace-prefix",
        /// §4.9.3.3: another stream took this one's place.
        Conflict = "conflict",
        /// §4.9.3.4: no traffic for too long.
        ConnectionTimeout = "connection-timeout",
        /// §4.9.3.5: the domain is no longer served here.
        HostGone = "host-gone",
        /// §4.9.3.6: the domain is not served here.
        HostUnknown = "host-unknown",
        /// §4.9.3.7: a stanza between servers lacks an address.
        ImproperAddressing = "improper-addressing",
        /// §4.9.3.8: our own fault.
        InternalServerError = "internal-server-error",
        /// §4.9.3.9: `from` does not match the authorised identity.
        InvalidFrom = "invalid-from",
        /// §4.9.3.10: an unsupported stream or content namespace.
        InvalidNamespace = "invalid-namespace",
        /// §4.9.3.11: invalid XML where validation is done.
        InvalidXml = "invalid-xml",
        /// §4.9.3.12: something was sent before authentication that needs it.
        NotAuthorized = "not-authorized",
        /// §4.9.3.13: XML that is not well-formed, namespaces included.
        NotWellFormed = "not-well-formed",
        /// §4.9.3.14: violates a local policy, such as a limit.
        PolicyViolation = "policy-violation",
        /// §4.9.3.15: a remote entity needed for authentication is out of reach.
        RemoteConnectionFailed = "remote-connection-failed",
        /// §4.9.3.16: a new stream is needed because features changed.
        Reset = "reset",
        /// §4.9.3.17: no resources to serve the stream.
        ResourceConstraint = "resource-constraint",
        /// §4.9.3.18: XML features that XMPP forbids.
        RestrictedXml = "restricted-xml",
        /// §4.9.3.19: served by another host.
        SeeOtherHost = "see-other-host",
        /// §4.9.3.20: the server is being shut down.
        SystemShutdown = "system-shutdown",
        /// §4.9.3.21: something else.
        UndefinedCondition = "undefined-condition",
        /// §4.9.3.22: not UTF-8.
        UnsupportedEncoding = "unsupported-encoding",
        /// §4.9.3.23: a mandatory feature is not supported.
        UnsupportedFeature = "unsupported-feature",
        /// §4.9.3.24: a first-level element that is not supported.
        UnsupportedStanzaType = "unsupported-stanza-type",
        /// §4.9.3.25: an unsupported version of XMPP.
        UnsupportedVersion = "unsupported-version",
    }
}

/// Why a stream ends. Unrecoverable by definition (RFC 6120 §4.9.1.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamError {
    /// The defined condition.
    pub condition: StreamErrorCondition,
    /// Words for a person; empty for none.
    pub text: Cow<'static, str>,
}

impl StreamError {
    /// A condition and words for a person, which may be empty.
    pub fn new(condition: StreamErrorCondition, text: impl Into<Cow<'static, str>>) -> Self {
        Self {
            condition,
            text: text.into(),
        }
    }

    /// Writes `<stream:error/>`. The prefix is that of the header, which is ours.
    pub fn write(&self, writer: &mut Writer) {
        writer.open("stream:error");
        self.write_content(writer);
        writer.close();
    }

    /// Writes the element where no header declares a prefix, as in a WebSocket frame (RFC 7395 §3.5).
    pub fn write_self_contained(&self, writer: &mut Writer) {
        writer
            .open("stream:error")
            .attr("xmlns:stream", ns::STREAMS);
        self.write_content(writer);
        writer.close();
    }

    /// `<stream:error/>` and the end of the stream, which belong together.
    pub fn to_bytes(&self) -> Bytes {
        let mut writer = Writer::new();
        self.write(&mut writer);
        [&writer.finish()[..], b"</stream:stream>"].concat().into()
    }

    fn write_content(&self, writer: &mut Writer) {
        writer.empty(self.condition.name(), STREAM_ERRORS);
        if !self.text.is_empty() {
            writer
                .open_ns("text", STREAM_ERRORS)
                .attr("xml:lang", "en")
                .text(&self.text)
                .close();
        }
    }
}

impl fmt::Display for StreamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_reason(f, self.condition.name(), &self.text)
    }
}

impl std::error::Error for StreamError {}

impl From<StreamErrorCondition> for StreamError {
    fn from(condition: StreamErrorCondition) -> Self {
        Self::new(condition, "")
    }
}

impl From<XmlError> for StreamErrorCondition {
    fn from(error: XmlError) -> Self {
        match error {
            XmlError::NotWellFormed => Self::NotWellFormed,
            XmlError::Restricted => Self::RestrictedXml,
            XmlError::BadFormat => Self::BadFormat,
            XmlError::UnsupportedEncoding => Self::UnsupportedEncoding,
            XmlError::InvalidNamespace => Self::InvalidNamespace,
            XmlError::BadPrefix => Self::BadNamespacePrefix,
            // Who exceeds a limit violates a policy (RFC 6120 §4.9.3.14, §13.12).
            XmlError::TooBig
            | XmlError::TooDeep
            | XmlError::TooManyElements
            | XmlError::TooManyAttributes
            | XmlError::TooManyNamespaces
            | XmlError::NameTooLong
            | XmlError::AttributeTooLong
            | XmlError::TooMuchWhitespace => Self::PolicyViolation,
        }
    }
}

impl From<XmlError> for StreamError {
    fn from(error: XmlError) -> Self {
        Self::new(error.into(), error.reason())
    }
}

conditions! {
    /// The defined conditions of SASL failures (RFC 6120 §6.5).
    pub enum SaslCondition {
        /// §6.5.1: the client aborted.
        Aborted = "aborted",
        /// §6.5.2: the account is disabled.
        AccountDisabled = "account-disabled",
        /// §6.5.3: the credentials have expired.
        CredentialsExpired = "credentials-expired",
        /// §6.5.4: the mechanism needs encryption first.
        EncryptionRequired = "encryption-required",
        /// §6.5.5: not base64.
        IncorrectEncoding = "incorrect-encoding",
        /// §6.5.6: not entitled to that authorisation identity.
        InvalidAuthzid = "invalid-authzid",
        /// §6.5.7: the mechanism was not offered.
        InvalidMechanism = "invalid-mechanism",
        /// §6.5.8: malformed.
        MalformedRequest = "malformed-request",
        /// §6.5.9: the mechanism is too weak for this account.
        MechanismTooWeak = "mechanism-too-weak",
        /// §6.5.10: wrong credentials, or anything that must look like it.
        NotAuthorized = "not-authorized",
        /// §6.5.11: try again later.
        TemporaryAuthFailure = "temporary-auth-failure",
    }
}

/// Why a log-in failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SaslFailure {
    /// The defined condition.
    pub condition: SaslCondition,
    /// Words for a person; empty for none.
    pub text: Cow<'static, str>,
}

impl SaslFailure {
    /// A condition and words for a person, which may be empty.
    pub fn new(condition: SaslCondition, text: impl Into<Cow<'static, str>>) -> Self {
        Self {
            condition,
            text: text.into(),
        }
    }

    /// Writes the `<failure/>` element.
    pub fn write(&self, writer: &mut Writer) {
        writer
            .open_ns("failure", SASL)
            .open(self.condition.name())
            .close();
        if !self.text.is_empty() {
            writer
                .open("text")
                .attr("xml:lang", "en")
                .text(&self.text)
                .close();
        }
        writer.close();
    }
}

impl fmt::Display for SaslFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_reason(f, self.condition.name(), &self.text)
    }
}

impl std::error::Error for SaslFailure {}

impl From<SaslCondition> for SaslFailure {
    fn from(condition: SaslCondition) -> Self {
        Self::new(condition, "")
    }
}

fn write_reason(f: &mut fmt::Formatter<'_>, condition: &str, text: &str) -> fmt::Result {
    if text.is_empty() {
        f.write_str(condition)
    } else {
        write!(f, "{condition}: {text}")
    }
}

#[cfg(test)]
#[path = "error_tests.rs"]
mod tests;
