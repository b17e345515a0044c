//! The one macro behind every type in this module tree, and what it writes down about each type.
//!
//! For: one place that decides how JSON meets Rust. Properties in `must` have to be there; `null` for one of them is
//! an error. Properties in `may` can be missing, and `null` means the same as missing, as it does for the Go types
//! that the engines are written with. Unknown properties are ignored (config.md, "Extensibility").
//! Must not: know any rule about values; those are in `validate`.
//! Tests: beside `load.rs` and `keys.rs`.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::de::Visitor;
use serde::{Deserialize, Deserializer};

use super::Id;

/// What a property holds, as far as the names of further properties go. Written by the macro; read by
/// [`super::unknown_keys`].
#[derive(Debug, Clone)]
pub enum Shape {
    /// A text, number or switch.
    Leaf,
    /// An object with a fixed set of properties.
    Object(Vec<(&'static str, Shape)>),
    /// A list of one kind of value.
    List(Box<Shape>),
    /// An object whose property names are data.
    Map(Box<Shape>),
}

impl Shape {
    /// The same object with one more property.
    pub(super) fn with(mut self, name: &'static str, shape: Self) -> Self {
        if let Self::Object(known) = &mut self {
            known.push((name, shape));
        }
        self
    }
}

/// A type that can appear in a document.
pub trait Shaped {
    /// The names that can appear in it. Made when it is asked for: a table of so many addresses would be relocated at the start of every
    /// command, and one alone reads it.
    fn shape() -> Shape;
}

macro_rules! leaves {
    ($($kind:ty),*) => { $(impl Shaped for $kind {
        fn shape() -> Shape {
            Shape::Leaf
        }
    })* };
}
leaves!(bool, u16, u32, u64, i32, i64, String, Id);

impl<T: Shaped> Shaped for Option<T> {
    fn shape() -> Shape {
        T::shape()
    }
}

impl<T: Shaped> Shaped for Vec<T> {
    fn shape() -> Shape {
        Shape::List(Box::new(T::shape()))
    }
}

impl<T: Shaped> Shaped for BTreeMap<String, T> {
    fn shape() -> Shape {
        Shape::Map(Box::new(T::shape()))
    }
}

/// Whether a value is left out of what we write.
pub(super) trait Absent {
    fn is_absent(&self) -> bool;
}

impl<T> Absent for Option<T> {
    fn is_absent(&self) -> bool {
        self.is_none()
    }
}

impl<T> Absent for Vec<T> {
    fn is_absent(&self) -> bool {
        self.is_empty()
    }
}

impl<K, V> Absent for BTreeMap<K, V> {
    fn is_absent(&self) -> bool {
        self.is_empty()
    }
}

/// The name of a property, borrowed from the document where it is written without escapes.
pub(super) struct Key<'de>(pub(super) Cow<'de, str>);

impl<'de> Deserialize<'de> for Key<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Key<'de>, D::Error> {
        struct Name;
        impl<'de> Visitor<'de> for Name {
            type Value = Key<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of a property")
            }

            fn visit_borrowed_str<E>(self, name: &'de str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Borrowed(name)))
            }

            fn visit_str<E>(self, name: &str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Owned(name.to_owned())))
            }
        }
        deserializer.deserialize_str(Name)
    }
}

/// Declares the types of a document.
///
/// `option` lists properties that are `Option`s, `many` those that are lists or maps.
macro_rules! objects {
    ($(
        $(#[$meta:meta])*
        $name:ident {
            $(must { $( $(#[$must_meta:meta])* $must_key:literal $must:ident: $must_type:ty, )* })?
            $(option { $( $(#[$option_meta:meta])* $option_key:literal $option:ident: $option_type:ty, )* })?
            $(many { $( $(#[$many_meta:meta])* $many_key:literal $many:ident: $many_type:ty, )* })?
        }
    )*) => { $(
        $(#[$meta])*
        #[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
        #[non_exhaustive]
        pub struct $name {
            $($(
                $(#[$must_meta])*
                #[serde(rename = $must_key)]
                pub $must: $must_type,
            )*)?
            $($(
                $(#[$option_meta])*
                #[serde(rename = $option_key, skip_serializing_if = "Option::is_none")]
                pub $option: Option<$option_type>,
            )*)?
            $($(
                $(#[$many_meta])*
                #[serde(rename = $many_key, skip_serializing_if = "crate::spec::objects::Absent::is_absent")]
                pub $many: $many_type,
            )*)?
        }

        // By hand, because a derived one also takes a list of the values in the order of the fields.
        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<$name, D::Error> {
                struct Properties;
                impl<'de> serde::de::Visitor<'de> for Properties {
                    type Value = $name;

                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str("an object")
                    }

                    fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<$name, A::Error> {
                        let mut object = $name::default();
                        $($( let mut $must = false; )*)?
                        while let Some($crate::spec::objects::Key(key)) = map.next_key()? {
                            match key.as_ref() {
                                $($( $must_key => {
                                    object.$must = map.next_value()?;
                                    $must = true;
                                } )*)?
                                $($( $option_key => object.$option = map.next_value()?, )*)?
                                $($( $many_key => {
                                    object.$many = map.next_value::<Option<$many_type>>()?.unwrap_or_default();
                                } )*)?
                                _ => { map.next_value::<serde::de::IgnoredAny>()?; }
                            }
                        }
                        $($( if !$must {
                            return Err(serde::de::Error::missing_field($must_key));
                        } )*)?
                        Ok(object)
                    }
                }
                deserializer.deserialize_map(Properties)
            }
        }

        impl $crate::spec::objects::Shaped for $name {
            fn shape() -> $crate::spec::objects::Shape {
                $crate::spec::objects::Shape::Object(Vec::new())
                    $($( .with($must_key, <$must_type as $crate::spec::objects::Shaped>::shape()) )*)?
                    $($( .with($option_key, <$option_type as $crate::spec::objects::Shaped>::shape()) )*)?
                    $($( .with($many_key, <$many_type as $crate::spec::objects::Shaped>::shape()) )*)?
            }
        }
    )* };
}
pub(super) use objects;
