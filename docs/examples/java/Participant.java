import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import io.cloudevents.CloudEvent;
import io.cloudevents.kafka.KafkaMessageFactory;
import io.cloudevents.rw.CloudEventRWException;
import java.io.IOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.StandardOpenOption;
import java.security.GeneralSecurityException;
import java.security.MessageDigest;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Set;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.StringDeserializer;

/**
 * Takes part in erasures: a service with a little file of people that forgets whom Assent says.
 *
 * <pre>
 * assent participant register warehouse --owner warehouse-team --key warehouse
 * mvn -q dependency:copy-dependencies -DoutputDirectory=lib
 * ASSENT_KAFKA=127.0.0.1:7192 ASSENT_URL=http://127.0.0.1:7100 ASSENT_TOKEN=… java -cp 'lib/*' Participant.java warehouse warehouse.json
 * </pre>
 *
 * The contract is docs/guides/participants.md. The file stands for a database: each write replaces it whole, as a transaction would.
 */
public final class Participant {
    static final String PREFIX = System.getenv().getOrDefault("ASSENT_PREFIX", "assent.");
    static final String COMMAND = "assent.erasure.command.v1";
    static final Set<String> STEPS = Set.of("fence", "delete", "sweep");
    static final ObjectMapper JSON = new ObjectMapper();
    static final HttpClient HTTP = HttpClient.newHttpClient();

    final String name;
    final Path file;
    /** people: id -> segment. fenced: id -> true, who is taken in no more. done: command -> its evidence. */
    final ObjectNode store;

    Participant(String name, Path file) throws IOException {
        this.name = name;
        this.file = file;
        store = Files.exists(file) ? (ObjectNode) JSON.readTree(Files.readString(file)) : JSON.createObjectNode();
        for (String part : List.of("people", "fenced", "done")) {
            store.withObject("/" + part);
        }
    }

    ObjectNode part(String part) {
        return (ObjectNode) store.get(part);
    }

    void keep() throws IOException {
        Path draft = file.resolveSibling(file.getFileName() + ".draft");
        Files.write(draft, JSON.writeValueAsBytes(store));
        try (FileChannel written = FileChannel.open(draft, StandardOpenOption.WRITE)) {
            written.force(true);
        }
        Files.move(draft, file, StandardCopyOption.ATOMIC_MOVE);
    }

    /** Whatever takes people in asks here first. */
    void takeIn(String person, String segment) throws IOException {
        if (part("fenced").has(person)) {
            throw new IllegalStateException("erased");
        }
        part("people").put(person, segment);
        keep();
    }

    /** Lines of what it touched: kind and name. Names are ids, never personal data. */
    List<String> touch(String step, String person) {
        if (step.equals("fence")) {
            part("fenced").put(person, true);
            return List.of("fences " + person);
        }
        boolean there = part("people").has(person);
        if (step.equals("delete")) {
            part("people").remove(person);
        }
        return there ? List.of("people " + person) : List.of();
    }

    /** Does the step once, however often it is asked, and keeps its evidence with the work. */
    JsonNode carryOut(JsonNode command) throws IOException, GeneralSecurityException {
        String id = command.get("command_id").asText();
        String step = command.get("step").asText();
        if (part("done").has(id)) {
            return part("done").get(id);
        }
        JsonNode evidence = evidenceOf(touch(step, command.get("subject_id").asText()));
        if (!step.equals("sweep")) { // that one looks anew each time
            part("done").set(id, evidence);
        }
        keep();
        return evidence;
    }

    /** Counts by kind, and a digest over the sorted list of what was touched. It reads no other topic, so it has no positions. */
    static JsonNode evidenceOf(List<String> touched) throws GeneralSecurityException {
        ObjectNode evidence = JSON.createObjectNode();
        ObjectNode counts = evidence.putObject("counts").put("people", 0);
        List<String> lines = new ArrayList<>(touched);
        lines.sort(null);
        MessageDigest digest = MessageDigest.getInstance("SHA-256");
        for (String line : lines) {
            String kind = line.split(" ")[0];
            counts.put(kind, counts.path(kind).asInt() + 1);
            digest.update((line + "\n").getBytes(StandardCharsets.UTF_8));
        }
        evidence.put("digest", HexFormat.of().formatHex(digest.digest()));
        evidence.putObject("positions");
        return evidence;
    }

    static HttpResponse<String> call(String path, JsonNode body) throws IOException, InterruptedException {
        HttpRequest.Builder request = HttpRequest.newBuilder(URI.create(System.getenv("ASSENT_URL") + path))
                .header("authorization", "Bearer " + System.getenv("ASSENT_TOKEN"))
                .header("content-type", "application/json")
                .timeout(Duration.ofSeconds(30));
        if (body != null) {
            request.POST(BodyPublishers.ofString(body.toString()));
        }
        return HTTP.send(request.build(), BodyHandlers.ofString());
    }

    /** Answers once. What was heard or is refused for good is over; null: come again. */
    String answer(JsonNode command, JsonNode evidence) throws InterruptedException {
        String step = command.get("step").asText();
        ObjectNode ack = JSON.createObjectNode().put("step", step).put("participant", name);
        ack.set("command_id", command.get("command_id"));
        ack.set("evidence", evidence);
        try {
            HttpResponse<String> heard = call("/erasure/v1/requests/" + command.get("request_id").asText() + "/acks", ack);
            if (heard.statusCode() / 100 == 2) {
                return "answered";
            }
            String reason = reasonOf(heard);
            System.out.println(step + " not taken: " + reason);
            // A sweep that found something looks again; without a right (401, 403) somebody has to give it one.
            boolean forGood = Set.of(404, 409, 422).contains(heard.statusCode()) && !reason.equals("not_empty");
            return forGood ? "refused: " + reason : null;
        } catch (IOException away) {
            System.out.println(step + " not heard: " + away.getClass().getSimpleName());
            return null;
        }
    }

    static String reasonOf(HttpResponse<String> refused) {
        try {
            return JSON.readTree(refused.body()).path("reason").asText(String.valueOf(refused.statusCode()));
        } catch (IOException unreadable) {
            return String.valueOf(refused.statusCode());
        }
    }

    /** A newcomer forgets everyone who is erased before it takes anybody in. */
    void loadErased() throws IOException, InterruptedException {
        String cursor = "";
        while (cursor != null) {
            JsonNode page = null;
            try {
                HttpResponse<String> told = call("/erasure/v1/erased?limit=500" + cursor, null);
                page = told.statusCode() == 200 ? JSON.readTree(told.body()) : null;
            } catch (IOException away) {
                System.out.println("away: " + away.getClass().getSimpleName());
            }
            if (page == null) {
                System.out.println("the erased can't be loaded yet");
                Thread.sleep(1_000);
                continue;
            }
            for (JsonNode erased : page.get("items")) {
                touch("fence", erased.get("subject_id").asText());
                touch("delete", erased.get("subject_id").asText());
            }
            keep();
            cursor = page.hasNonNull("next") ? "&cursor=" + page.get("next").asText() : null;
        }
    }

    /** The command, if it is one that this participant is asked and knows how to do; else null. */
    JsonNode asked(ConsumerRecord<String, byte[]> record) {
        try {
            CloudEvent event = KafkaMessageFactory.createReader(record).toEvent();
            if (!event.getType().equals(COMMAND) || event.getData() == null) {
                return null;
            }
            JsonNode command = JSON.readTree(event.getData().toBytes());
            for (JsonNode one : command.path("participants")) {
                if (one.asText().equals(name) && STEPS.contains(command.path("step").asText())) {
                    return command;
                }
            }
        } catch (CloudEventRWException | IOException unreadable) {
            System.out.println("a record that can't be read");
        }
        return null;
    }

    /** True when it is over: nothing to do, answered, or refused for good. */
    boolean done(JsonNode command) throws IOException, InterruptedException, GeneralSecurityException {
        if (command == null) {
            return true;
        }
        String outcome = answer(command, carryOut(command));
        if (outcome != null) {
            System.out.println(command.get("step").asText() + " " + outcome);
            return true;
        }
        if (command.get("step").asText().equals("sweep")) {
            touch("delete", command.get("subject_id").asText());
        }
        return false;
    }

    public static void main(String[] arguments) throws Exception {
        Participant participant = new Participant(arguments[0], Path.of(arguments[1]).toAbsolutePath());
        participant.loadErased();
        Properties settings = new Properties();
        settings.put("bootstrap.servers", System.getenv().getOrDefault("ASSENT_KAFKA", "127.0.0.1:7192"));
        settings.put("group.id", PREFIX + participant.name);
        settings.put("enable.auto.commit", "false");
        settings.put("auto.offset.reset", "earliest");
        settings.put("max.poll.records", "1");
        try (var consumer = new KafkaConsumer<>(settings, new StringDeserializer(), new ByteArrayDeserializer())) {
            consumer.subscribe(List.of(PREFIX + "erasure.commands.v1"));
            System.out.println("listening");
            for (long pause = 200; ; ) {
                for (ConsumerRecord<String, byte[]> record : consumer.poll(Duration.ofSeconds(1))) {
                    TopicPartition partition = new TopicPartition(record.topic(), record.partition());
                    if (participant.done(participant.asked(record))) {
                        // Only now: what wasn't answered is read again after a crash.
                        consumer.commitSync(Map.of(partition, new OffsetAndMetadata(record.offset() + 1)));
                        pause = 200;
                    } else {
                        // It is read again, so the client is polled and stays in its group however long this takes.
                        consumer.seek(partition, record.offset());
                        Thread.sleep(pause);
                        pause = Math.min(2 * pause, 30_000);
                    }
                }
            }
        }
    }
}
