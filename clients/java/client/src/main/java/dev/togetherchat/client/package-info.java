/**
 * The client library. {@link dev.togetherchat.client.TogetherChat} makes the calls; every failed call throws a {@link
 * dev.togetherchat.client.ChatException}. Messages are the generated classes of {@code dev.togetherchat.v1}, neither
 * wrapped nor copied.
 */
package dev.togetherchat.client;
