/**
 * The client library: {@link dev.togetherchat.client.TogetherChat} makes the calls, {@link
 * dev.togetherchat.client.ChatException} is how every one of them fails. Messages are the generated classes of {@code
 * dev.togetherchat.v1}, neither wrapped nor copied.
 */
package dev.togetherchat.client;
