//! XEP-0004: data forms of the type `result`, as an entity adds them to what it says of itself
//! (XEP-0128).

use std::borrow::Cow;

use crate::xml::Writer;

const NS: &str = "jabber:x:data";

/// A form whose fields are registered for its `FORM_TYPE` (XEP-0068).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Form {
    /// The `FORM_TYPE`.
    pub form_type: &'static str,
    /// Its other fields.
    pub fields: Vec<Field>,
}

/// One field of such a form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// The attribute `var`.
    pub var: Cow<'static, str>,
    /// The attribute `type`; left out where the registration's is meant.
    pub type_: Option<&'static str>,
    /// Its values, in the order they are shown.
    pub values: Vec<String>,
}

impl Form {
    /// Writes the form.
    pub fn write(&self, writer: &mut Writer) {
        writer.open_ns("x", NS).attr("type", "result");
        let form_type = Field {
            var: "FORM_TYPE".into(),
            type_: Some("hidden"),
            values: vec![self.form_type.to_owned()],
        };
        for field in std::iter::once(&form_type).chain(&self.fields) {
            writer
                .open("field")
                .attr("var", &field.var)
                .attr_opt("type", field.type_);
            for value in &field.values {
                writer.leaf("value", value);
            }
            writer.close();
        }
        writer.close();
    }
}
