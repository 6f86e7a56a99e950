//! One table for an enum of defined conditions: its variants, their element names, and what each means.

/// Declares an enum of conditions without data together with the mapping to and from element names.
macro_rules! conditions {
    ($(#[$meta:meta])* $vis:vis enum $name:ident { $($(#[$doc:meta])* $variant:ident = $element:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        $vis enum $name {
            $($(#[$doc])* $variant,)+
        }

        impl $name {
            /// Every condition, in the order of the specification.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The name of the condition's element.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $element,)+
                }
            }

            /// The condition whose element has this name.
            pub fn of(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|condition| condition.name() == name)
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.name())
            }
        }
    };
}

pub(super) use conditions;
