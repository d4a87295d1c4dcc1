package dev.togetherchat.client;

/**
 * One thing that is wrong.
 *
 * @param field a path such as {@code messages[2].content[0].text}, or the subject of a quota
 * @param description what is wrong with it, for people
 */
public record Violation(String field, String description) {}
