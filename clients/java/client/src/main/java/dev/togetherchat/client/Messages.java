package dev.togetherchat.client;

import dev.togetherchat.v1.CompleteRequest;
import dev.togetherchat.v1.CompleteResponse;
import dev.togetherchat.v1.ContentPart;
import dev.togetherchat.v1.FunctionTool;
import dev.togetherchat.v1.Message;
import dev.togetherchat.v1.Role;
import dev.togetherchat.v1.Tool;
import dev.togetherchat.v1.ToolCall;
import java.util.List;
import java.util.stream.Collectors;

/** Builders of the contract's messages, and functions that read the text of a response. */
public final class Messages {
    private Messages() {}

    /** A request with these messages; set further fields on the builder. */
    public static CompleteRequest.Builder request(String model, Message... messages) {
        return CompleteRequest.newBuilder().setModel(model).addAllMessages(List.of(messages));
    }

    /** Instructions for the whole conversation. */
    public static Message system(String text) {
        return turn(Role.ROLE_SYSTEM, text);
    }

    /** Instructions from the developer. */
    public static Message developer(String text) {
        return turn(Role.ROLE_DEVELOPER, text);
    }

    /** A message of the user. */
    public static Message user(String text) {
        return turn(Role.ROLE_USER, text);
    }

    /** A message of the model; the message of a response can be appended unchanged. */
    public static Message assistant(String text) {
        return turn(Role.ROLE_ASSISTANT, text);
    }

    /** The result of a tool call. */
    public static Message toolResult(ToolCall call, String text) {
        return turn(Role.ROLE_TOOL, text).toBuilder().setToolCallId(call.getId()).build();
    }

    /** A function that the model may call. The parameters are a JSON Schema, which is sent byte for byte. */
    public static Tool functionTool(String name, String description, String parametersJson) {
        FunctionTool function = FunctionTool.newBuilder()
                .setName(name)
                .setDescription(description)
                .setParametersJson(parametersJson)
                .build();
        return Tool.newBuilder().setFunction(function).build();
    }

    /** The text of a response's first choice, or "". */
    public static String textOf(CompleteResponse response) {
        return response.getChoicesCount() == 0
                ? ""
                : textOf(response.getChoices(0).getMessage());
    }

    /** The text of a message. */
    public static String textOf(Message message) {
        return message.getContentList().stream().map(ContentPart::getText).collect(Collectors.joining());
    }

    private static Message turn(Role role, String text) {
        return Message.newBuilder()
                .setRole(role)
                .addContent(ContentPart.newBuilder().setText(text))
                .build();
    }
}
