//! Index types, displayed as in the text form, and the arenas that they index.

use std::marker::PhantomData;
use std::ops::{Index, IndexMut};

/// A dense index into an [`Arena`].
pub trait Entity: Copy + Eq + Ord {
    /// Creates the index of a position.
    fn new(index: usize) -> Self;
    /// Returns the position.
    fn index(self) -> usize;
}

/// Declares an id type: `entity!(ValueId, "%", "documentation")`.
macro_rules! entity {
    ($name:ident, $prefix:literal, $doc:literal) => {
        #[doc = $doc]
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(u32);
        impl $crate::ir::Entity for $name {
            #[inline]
            fn new(index: usize) -> Self {
                Self(u32::try_from(index).expect("fewer than 2^32 entities"))
            }
            #[inline]
            fn index(self) -> usize {
                self.0 as usize
            }
        }
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }
        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                std::fmt::Display::fmt(self, f)
            }
        }
    };
}
pub(crate) use entity;

/// An append-only table.
#[derive(Clone, Debug, PartialEq)]
pub struct Arena<K, V> {
    items: Vec<V>,
    key: PhantomData<K>,
}

impl<K, V> Default for Arena<K, V> {
    fn default() -> Self {
        Self { items: Vec::new(), key: PhantomData }
    }
}

impl<K, V> IntoIterator for Arena<K, V> {
    type Item = V;
    type IntoIter = std::vec::IntoIter<V>;
    fn into_iter(self) -> Self::IntoIter {
        self.items.into_iter()
    }
}

impl<K: Entity, V> Arena<K, V> {
    /// Creates an empty table with room for this many entries.
    pub fn with_capacity(n: usize) -> Self {
        Self { items: Vec::with_capacity(n), key: PhantomData }
    }

    /// Appends an entry and returns its id, which is its position.
    pub fn push(&mut self, v: V) -> K {
        self.items.push(v);
        K::new(self.items.len() - 1)
    }

    /// Returns the entry, or `None` if the id is out of range.
    pub fn get(&self, k: K) -> Option<&V> {
        self.items.get(k.index())
    }

    /// Returns the entries from the `n`-th on.
    pub fn from(&self, n: usize) -> &[V] {
        self.items.get(n..).unwrap_or(&[])
    }

    /// Returns the number of entries.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Returns true if there are no entries.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Returns the entries in order of insertion.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (K, &V)> + ExactSizeIterator {
        self.items.iter().enumerate().map(|(i, v)| (K::new(i), v))
    }

    /// Returns the ids in order of insertion.
    pub fn keys(&self) -> impl DoubleEndedIterator<Item = K> + use<K, V> {
        (0..self.items.len()).map(K::new)
    }
}

impl<K: Entity, V> Index<K> for Arena<K, V> {
    type Output = V;
    #[inline]
    fn index(&self, k: K) -> &V {
        &self.items[k.index()]
    }
}
impl<K: Entity, V> IndexMut<K> for Arena<K, V> {
    #[inline]
    fn index_mut(&mut self, k: K) -> &mut V {
        &mut self.items[k.index()]
    }
}

/// The result of an analysis for each entity of an arena: a table beside the graph, never a field in it.
#[derive(Clone, Debug)]
pub struct Side<K, V> {
    items: Vec<V>,
    key: PhantomData<K>,
}

impl<K: Entity, V: Clone> Side<K, V> {
    /// Creates a table of `len` entries, each `v`.
    pub fn new(len: usize, v: V) -> Self {
        Self { items: vec![v; len], key: PhantomData }
    }
}
impl<K: Entity, V> Index<K> for Side<K, V> {
    type Output = V;
    #[inline]
    fn index(&self, k: K) -> &V {
        &self.items[k.index()]
    }
}
impl<K: Entity, V> IndexMut<K> for Side<K, V> {
    #[inline]
    fn index_mut(&mut self, k: K) -> &mut V {
        &mut self.items[k.index()]
    }
}
