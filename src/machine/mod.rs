//! The Anoma resource machine. It never knows what a chat is.
