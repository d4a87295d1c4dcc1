package dev.togetherchat.client;

/**
 * One error in a request, or one limit that was reached.
 *
 * @param field a path such as {@code messages[2].content[0].text}, or the subject of a quota
 * @param description what is wrong with it, for people
 */
public record Violation(String field, String description) {}
