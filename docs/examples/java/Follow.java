import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import io.cloudevents.CloudEvent;
import io.cloudevents.kafka.KafkaMessageFactory;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Set;
import java.util.TreeMap;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.StringDeserializer;

/**
 * Follows everyone's consents: the compacted state from zero, then the events without a gap. Prints a line per change.
 *
 * <pre>mvn -q dependency:copy-dependencies -DoutputDirectory=lib && java -cp 'lib/*' Follow.java</pre>
 *
 * The rules are those of docs/guides/consuming.md. It keeps its picture in memory and starts from zero each time; who keeps it
 * in a database writes the sequence beside it, in the same transaction.
 */
public final class Follow {
    static final String PREFIX = System.getenv().getOrDefault("ASSENT_PREFIX", "assent.");
    static final String STATE = PREFIX + "consent.state.v1";
    static final String EVENTS = PREFIX + "consent.events.v1";
    static final Map<String, String> SAYS = Map.of(
            "assent.consent.granted.v1", "given",
            "assent.consent.requested.v1", "requested",
            "assent.consent.refused.v1", "refused",
            "assent.consent.withdrawn.v1", "withdrawn",
            "assent.consent.expired.v1", "expired");
    /** There may be several restrictions at once: the state record that was written with each says whether one still stands. */
    static final Set<String> LEFT_TO_THE_STATE =
            Set.of("assent.consent.restricted.v1", "assent.consent.restriction_lifted.v1");
    /** Their keys name no person: purposes, the policy, the rules, batches of claims. */
    static final Set<String> ABOUT_NOBODY = Set.of(
            "assent.consent.purpose_defined.v1", "assent.consent.purpose_retired.v1", "assent.consent.policy_applied.v1",
            "assent.consent.rules_loaded.v1", "assent.consent.claims_submitted.v1", "assent.consent.claims_decided.v1");

    record Event(String kind, JsonNode data) {}

    /** What is said, and when a consent ends by itself; null: not. */
    record Line(String state, Instant until) {
        static Line of(String state, JsonNode data) {
            boolean ends = state.equals("given") && data.has("valid_until");
            return new Line(state, ends ? Instant.parse(data.get("valid_until").asText()) : null);
        }

        String at(Instant now) {
            return until != null && !until.isAfter(now) ? "expired" : state;
        }
    }

    /** What holds for one person, and the sequence of the last event in it. */
    static final class Picture {
        final String person;
        long sequence = 0;
        Map<String, Line> lines = new TreeMap<>();
        /** Her data are not to be used at present, whatever her lines say (GDPR Article 18). */
        boolean restricted = false;
        Map<String, String> told = new TreeMap<>();
        final Map<Long, Event> waiting = new HashMap<>();

        Picture(String person) {
            this.person = person;
        }

        /** A state record: older than what is known is ignored, else it replaces the picture. No data: forget her. */
        void state(long reflects, JsonNode data) {
            if (reflects < sequence) return;
            Map<String, Line> after = new TreeMap<>();
            if (data != null) {
                for (JsonNode line : data.get("consents")) {
                    after.put(name(line), Line.of(line.get("state").asText(), line));
                }
            }
            restricted = data != null && data.path("restricted").asBoolean();
            replace(reflects, after);
            if (data == null) tell("forgotten");
            goOn();
        }

        /** An event: kept until it is the next one; known ones are dropped. */
        void event(long its, String kind, JsonNode data) {
            if (its <= sequence) return;
            waiting.put(its, new Event(kind, data));
            goOn();
        }

        private void goOn() {
            waiting.keySet().removeIf(known -> known <= sequence);
            Event next;
            // What was told later than it happened, or restricts, waits: the state record of the same sequence says what holds.
            while ((next = waiting.get(sequence + 1)) != null
                    && !next.data().has("acted_at") && !LEFT_TO_THE_STATE.contains(next.kind())) {
                waiting.remove(sequence + 1);
                replace(sequence + 1, after(next));
            }
        }

        private Map<String, Line> after(Event event) {
            if (event.kind().equals("assent.consent.erased.v1")) return new TreeMap<>();
            Map<String, Line> after = new TreeMap<>(lines);
            String state = SAYS.get(event.kind());
            if (state == null) return after; // a type that isn't known changes no line
            String own = name(event.data());
            // She confirms or doesn't: what she said before, about this or about all, holds until then.
            if (state.equals("requested") && lines.entrySet().stream().anyMatch(it ->
                    covers(it.getKey().split("/"), own.split("/")) && !it.getValue().state().equals("requested"))) {
                return after;
            }
            Line says = Line.of(state, event.data());
            after.replaceAll((line, before) -> covers(own.split("/"), line.split("/")) ? says : before);
            after.put(own, says);
            return after;
        }

        private void replace(long its, Map<String, Line> after) {
            sequence = its;
            lines = after;
            tellChanges();
        }

        /** Consents also end by themselves. */
        void tellChanges() {
            Instant now = Instant.now();
            Map<String, String> before = told;
            told = new TreeMap<>();
            lines.forEach((line, says) -> {
                String state = restricted ? "restricted" : says.at(now);
                told.put(line, state);
                if (!state.equals(before.get(line))) tell(line + " " + state);
            });
        }

        private void tell(String what) {
            System.out.println(person + " " + sequence + " " + what);
        }
    }

    static String name(JsonNode line) {
        return line.get("purpose").asText() + "/" + line.get("channel").asText();
    }

    static boolean covers(String[] all, String[] one) {
        return (all[0].equals("*") || all[0].equals(one[0])) && (all[1].equals("*") || all[1].equals(one[1]));
    }

    static long number(CloudEvent event, String extension) {
        return Long.parseLong(event.getExtension(extension).toString());
    }

    public static void main(String[] arguments) throws Exception {
        Properties settings = new Properties();
        settings.put("bootstrap.servers", System.getenv().getOrDefault("ASSENT_KAFKA", "127.0.0.1:7192"));
        settings.put("auto.offset.reset", "none");
        Map<String, Picture> people = new HashMap<>();
        ObjectMapper json = new ObjectMapper();
        try (var consumer = new KafkaConsumer<>(settings, new StringDeserializer(), new ByteArrayDeserializer())) {
            // The events from where they end now, the state from its beginning: between the two nothing is missing.
            List<TopicPartition> events = new ArrayList<>();
            List<TopicPartition> states = new ArrayList<>();
            consumer.partitionsFor(EVENTS).forEach(it -> events.add(new TopicPartition(EVENTS, it.partition())));
            consumer.partitionsFor(STATE).forEach(it -> states.add(new TopicPartition(STATE, it.partition())));
            List<TopicPartition> all = new ArrayList<>(events);
            all.addAll(states);
            consumer.assign(all);
            consumer.endOffsets(events).forEach(consumer::seek);
            consumer.seekToBeginning(states);
            System.err.println("following");
            while (true) {
                ConsumerRecords<String, byte[]> records = consumer.poll(Duration.ofSeconds(1));
                // Who follows many keeps them in the order of their ends.
                if (records.isEmpty()) people.values().forEach(Picture::tellChanges);
                for (ConsumerRecord<String, byte[]> record : records) {
                    CloudEvent event = KafkaMessageFactory.createReader(record).toEvent();
                    JsonNode data = event.getData() == null ? null : json.readTree(event.getData().toBytes());
                    Picture picture = people.computeIfAbsent(record.key(), Picture::new);
                    if (record.topic().equals(STATE)) {
                        picture.state(number(event, "eventsequence"), data);
                    } else if (!ABOUT_NOBODY.contains(event.getType())) {
                        picture.event(number(event, "sequence"), event.getType(), data);
                    }
                }
            }
        }
    }
}
